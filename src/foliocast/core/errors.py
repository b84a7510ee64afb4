"""The errors a user can meet, all under one root.

::

    FoliocastError                what the command line prints as one sentence, exit code 2
    ├── DataError (ValueError)    the numbers handed in cannot be trusted: duplicates, NaN prices, no such ticker
    │   └── HistoryError          the data are fine but too short for what was asked
    ├── ConfigError (ValueError)  an option, a key or a combination that does not exist
    ├── LookAheadError            something was about to be used before it was known
    ├── OptimisationError         no portfolio came out
    │   ├── InfeasibleError       the constraints contradict each other (the message names them)
    │   └── SolverError           the solver stopped short of the accuracy it promises
    ├── MissingExtraError         an optional dependency is not installed
    └── InterruptedRun            the run was stopped and can be resumed, exit code 3

Every message says what was found, what was expected, the likely cause and what to do.
"""

from __future__ import annotations


class FoliocastError(Exception):
    """Root of all errors that are the user's to mend."""


class DataError(FoliocastError, ValueError):
    """Input data that cannot be used as they are."""


class HistoryError(DataError):
    """Too few observations for the request."""


class ConfigError(FoliocastError, ValueError):
    """A setting that does not exist or does not fit with the others."""


class LookAheadError(FoliocastError):
    """A value, model or threshold would have been used before it was known."""


class OptimisationError(FoliocastError):
    """No portfolio could be computed."""


class InfeasibleError(OptimisationError):
    """The constraints contradict each other."""


class SolverError(OptimisationError):
    """The solver did not reach the accuracy it promises."""


class MissingExtraError(FoliocastError, ImportError):
    """An optional dependency is missing.

    Parameters
    ----------
    package : str
        The import that failed.
    extra : str
        The extra of ``foliocast`` that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; it comes with: pip install 'foliocast[{extra}]'")


class InterruptedRun(FoliocastError):
    """The run was stopped before its end; what it finished is kept and it can be resumed."""
