"""Telling processes apart after the fact: a process id alone is given again to others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def identity(pid: int) -> str | None:
    """Name of a running process that no later one will have; None if there is none (a zombie does not run).

    On Linux the id and the start time; elsewhere the id alone.
    """
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}:"
    return None if fields[0] in "ZX" else f"{pid}:{fields[19]}"


def runs(name: str | None) -> bool:
    """Whether the process of this `identity` still runs."""
    return name is not None and identity(int(name.partition(":")[0])) == name


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Hold a lock file: the block runs in one process at a time. The lock ends with the process, however it ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        try:
            import fcntl
        except ImportError:  # no such lock on Windows: one service a folder there
            yield
            return
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
