"""How long work tells whoever listens how far it is, without an argument through every layer in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


def silent(what: str, done: int, total: int) -> None:
    """A progress report that nobody reads."""


_LISTENER: ContextVar[Report] = ContextVar("listener", default=silent)


def tell(what: str, done: int, total: int) -> None:
    """Say how far some work is; costs next to nothing when nobody listens."""
    _LISTENER.get()(what, done, total)


@contextmanager
def listening(report: Report, seconds: float = 0.2) -> Iterator[None]:
    """What is told inside the block reaches ``report``: its first and last word, and between them one each ``seconds``.

    Only this thread and process are heard: workers report through `foliocast.runtime.compute.Compute`.
    """
    last = -float("inf")

    def hear(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= seconds:
            last = now
            report(what, done, total)

    token = _LISTENER.set(hear)
    try:
        yield
    finally:
        _LISTENER.reset(token)
