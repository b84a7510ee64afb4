"""Long work behind a service: each job is a folder and a process of its own, so that nothing is lost with the server.

A job runs a verb of the command line with ``--json``. Its folder holds ``job.json`` (what, when, how it ended),
``progress.json``, ``result.json`` and ``log.txt``. A server that is killed leaves the folders; the next one finds jobs
whose process is gone and marks them as interrupted, ready to be resumed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foliocast.core.errors import ConfigError
from foliocast.runtime.files import write_json
from foliocast.runtime.home import now

ENDED = ("done", "failed", "cancelled", "interrupted")
_ID = re.compile(r"^[a-z]+-[0-9a-f]{12}$")


@dataclass(frozen=True)
class Job:
    """State of one job, as it stands in ``job.json``."""

    id: str
    verb: str
    arguments: tuple[str, ...]
    status: str = "queued"
    created: str = ""
    ended: str | None = None
    exit_code: int | None = None
    pid: int | None = None


class JobStore:
    """Runs jobs, a few at a time, and remembers them.

    Parameters
    ----------
    folder : Path
        Where the job folders are.
    workers : int
        Jobs that run at the same time.
    """

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="job")
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for job in self.list():
            if job.status not in ENDED and not _alive(job.pid):
                self._save(replace(job, status="interrupted", ended=_stamp()))

    # ---- what a caller does
    def submit(self, verb: str, arguments: list[str]) -> Job:
        """Queue a verb with its command-line arguments (without ``--json`` and ``--out``, which the job adds)."""
        job = Job(f"{verb}-{secrets.token_hex(6)}", verb, tuple(arguments), created=_stamp())
        self.path(job.id).mkdir()
        self._save(job)
        self._pool.submit(self._run, job.id)
        return job

    def resume(self, job_id: str) -> Job:
        """Queue an interrupted job again; a backtest goes on from its finished folds."""
        job = self.get(job_id)
        if job.status not in ("interrupted", "cancelled"):
            raise ConfigError(f"job {job_id} is {job.status}; only an interrupted or cancelled job can be resumed")
        runs = sorted((self.path(job_id) / "runs").glob("*/run.json"))
        arguments = ("--resume", str(runs[-1].parent)) if job.verb == "backtest" and runs else job.arguments
        job = replace(job, status="queued", ended=None, exit_code=None, pid=None, arguments=arguments)
        self._save(job)
        self._pool.submit(self._run, job_id)
        return job

    def cancel(self, job_id: str) -> Job:
        """Stop a job: what it finished is kept."""
        with self._lock:
            job = self.get(job_id)
            if job.status in ENDED:
                return job
            job = replace(job, status="cancelled", ended=_stamp())
            self._save(job)
        if job.pid is not None and _alive(job.pid):
            os.killpg(job.pid, signal.SIGINT)
        return job

    def get(self, job_id: str) -> Job:
        """State of a job.

        Raises
        ------
        ConfigError
            If there is no such job.
        """
        file = self.path(job_id) / "job.json"
        if not file.is_file():
            raise ConfigError(f"no job '{job_id}'")
        values = json.loads(file.read_text())
        return Job(**{**values, "arguments": tuple(values["arguments"])})

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        jobs = [self.get(file.parent.name) for file in self.folder.glob("*/job.json")]
        return sorted(jobs, key=lambda job: job.created, reverse=True)

    def progress(self, job_id: str) -> dict[str, Any]:
        """What the job last said of its progress: ``{"what", "done", "total"}``, or empty."""
        return _read(self.path(job_id) / "progress.json")

    def result(self, job_id: str) -> dict[str, Any]:
        """The JSON object that the job printed; empty before it ended."""
        return _read(self.path(job_id) / "result.json")

    def log(self, job_id: str, last: int = 4000) -> str:
        """The end of what the job wrote for people."""
        file = self.path(job_id) / "log.txt"
        return file.read_text(errors="replace")[-last:] if file.is_file() else ""

    def path(self, job_id: str) -> Path:
        """Folder of a job; the id is checked, so that no other path can be reached."""
        if not _ID.match(job_id):
            raise ConfigError(f"'{job_id[:40]}' is not a job id")
        return self.folder / job_id

    def close(self) -> None:
        """Start no further jobs; running ones go on by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- how it is done
    def _run(self, job_id: str) -> None:
        folder = self.path(job_id)
        with self._lock:
            job = self.get(job_id)
            if job.status != "queued":
                return
            process = self._start(job, folder)
            self._save(replace(job, status="running", pid=process.pid))
        code = process.wait()
        with self._lock:
            job = self.get(job_id)
            if job.status == "running":
                status = {0: "done", 3: "interrupted"}.get(code, "failed")
                self._save(replace(job, status=status, ended=_stamp(), exit_code=code))

    def _start(self, job: Job, folder: Path) -> subprocess.Popen[bytes]:
        # Flags come first: a job's arguments may end in "--" and free text.
        places = ["--out", str(folder / "runs")] if job.verb in ("backtest", "train", "explain", "generate") else []
        command = [sys.executable, "-m", "foliocast", job.verb, "--json", *places, *job.arguments]
        environment = {**os.environ, "FOLIOCAST_PROGRESS": str(folder / "progress.json")}
        with (folder / "result.json").open("wb") as out, (folder / "log.txt").open("ab") as log:
            # A session of its own: the server's end does not end the job, and a cancel reaches its workers too.
            return subprocess.Popen(
                command, stdout=out, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )

    def _save(self, job: Job) -> None:
        write_json(self.path(job.id) / "job.json", asdict(job))


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def _alive(pid: int | None) -> bool:
    """Whether a process runs (a zombie does not)."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def _stamp() -> str:
    return now().isoformat(timespec="milliseconds")
