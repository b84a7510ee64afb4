"""Runs one command for a job store and writes down how it ended, whether or not the server still lives.

``python -m foliocast.runtime.supervise FOLDER COMMAND...`` gives FOLDER ``result.json`` (the command's stdout, whole or
absent), ``log.txt`` (its stderr) and, last of all, ``exit.json``. A machine that loses power leaves no ``exit.json``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from foliocast.runtime.files import whole_file, write_json


def supervise(folder: Path, command: list[str]) -> int:
    """Run a command to its end.

    Parameters
    ----------
    folder : Path
    command : list of str

    Returns
    -------
    int
        The exit code; negative when a signal ended it.
    """
    # A cancel reaches the whole session: the command ends by it, and this process stays to say so. A handler that does
    # nothing, for an ignored signal would be inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    with (folder / "log.txt").open("ab") as log, whole_file(folder / "result.json") as aside, aside.open("wb") as out:
        code = subprocess.Popen(command, stdout=out, stderr=log, stdin=subprocess.DEVNULL).wait()
    write_json(folder / "exit.json", {"code": code})
    return code


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), sys.argv[2:]) != 0)
