"""What every verb shares: how errors end, how JSON is printed, how progress is shown."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from foliocast.core.panel import Panel

Out = Annotated[
    Path | None, typer.Option("--out", help="Folder for what is written (default: runs/).", show_default=False)
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of everything random; the same seed gives the same bits.")
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", help="Worker processes; 0 takes one a processor. Results do not change.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        help="Catalog name, file (CSV or Parquet, layout is sniffed), or sample[:tech|sp500|index|factors].",
    ),
]

Track = Annotated[
    str | None,
    typer.Option("--track", help="Record it: mlflow, an MLflow address, or a folder.", show_default=False),
]


def guarded(command: Callable[..., Any]) -> Callable[..., None]:
    """Runs a verb: prints its value with ``--json``; an error ends in one sentence and its exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from foliocast.core.errors import FoliocastError, InterruptedRun

        as_json = bool(kwargs.get("as_json"))
        try:
            result = command(*args, **kwargs)
        except InterruptedRun as stop:
            _fail(str(stop), 3, as_json)
        except KeyboardInterrupt:
            _fail("stopped by the user before anything was kept", 3, as_json)
        except FoliocastError as error:
            _fail(str(error), 2, as_json)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            _fail(f"this is a bug in foliocast, please report it: {type(error).__name__}: {error}", 1, as_json)
        else:
            if as_json:
                print_json(result)

    return run


def _fail(message: str, code: int, as_json: bool) -> None:
    if as_json:
        print_json({"error": message, "exit_code": code})
    print(f"error: {message}" if code != 3 else message, file=sys.stderr)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    from foliocast.runtime.files import plain

    print(json.dumps(plain({} if value is None else value), allow_nan=False))


def console(as_json: bool = False) -> Any:
    """Where a person reads: stdout, or stderr when stdout belongs to JSON."""
    from rich.console import Console

    return Console(stderr=as_json, highlight=False)


@contextmanager
def progress(as_json: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar with ETA on stderr; yields ``report(what, done, total)``."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=as_json) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if total == 0:
                return
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)
            _tell_job(what, done, total)

        yield report


def _tell_job(what: str, done: int, total: int) -> None:
    """Leave the progress where the job that runs this command looks for it."""
    if path := os.environ.get("FOLIOCAST_PROGRESS"):
        from foliocast.runtime.files import write_json

        write_json(Path(path), {"what": what, "done": done, "total": total})


def panel_of(data: str | None, assets: Iterable[str] | None) -> Panel:
    """The data named, else the smallest embedded sample that holds the assets."""
    from foliocast.data import load_panel

    panel = load_panel(data or "sample")
    if data is None and assets is not None and not set(assets) <= set(panel.assets):
        joined = load_panel("sample:all")
        panel = joined if set(assets) <= set(joined.assets) else panel
    return panel


def parse_weights(text: str) -> dict[str, float]:
    """``A=.5,B=.5`` as a dict; a clear error otherwise."""
    from foliocast.core.errors import ConfigError

    out: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, number = part.rpartition("=")  # a name may hold one: EURUSD=X
        try:
            out[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise ConfigError(f"'{part}' is not NAME=NUMBER, e.g. NVDA=-0.2 (minus 20 %)")
    if not out:
        raise ConfigError(f"'{text}' names nothing; expected NAME=NUMBER, separated by commas")
    return out
