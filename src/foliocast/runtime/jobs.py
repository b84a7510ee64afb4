"""Long work behind a service: each job is a folder and a process of its own, so that nothing is lost with the server.

A job runs a verb of the command line with ``--json``. Its folder holds ``job.json`` (what, when, how it ended),
``progress.json``, ``result.json``, ``log.txt`` and ``exit.json`` (see `foliocast.runtime.supervise`). A server that is
killed leaves the folders, and its running jobs go on by themselves. The next server takes them over: what has ended is
settled by its ``exit.json``, what runs is watched, what waited is queued again, and what died with the machine is
interrupted, ready to be resumed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foliocast.core.errors import ConfigError
from foliocast.runtime.files import write_json
from foliocast.runtime.home import now
from foliocast.runtime.processes import identity, one_at_a_time, runs

ENDED = ("done", "failed", "cancelled", "interrupted")
WRITES = ("backtest", "search", "score", "generate")  # verbs whose files belong to the job
GRACE = 20.0  # seconds that a cancelled job has to end by itself
_ID = re.compile(r"[a-z]+-[0-9a-f]{12}")


class NoSuchJob(ConfigError):
    """There is no job of this id."""


class JobStateError(ConfigError):
    """The job is in a state in which this cannot be done, or the queue is full."""


@dataclass(frozen=True)
class Job:
    """State of one job, as it stands in ``job.json``.

    Attributes
    ----------
    process, owner : str or None
        `foliocast.runtime.processes.identity` of the job's process and of the server that looks after it.
    """

    id: str
    verb: str
    arguments: tuple[str, ...]
    status: str = "queued"
    created: str = ""
    ended: str | None = None
    exit_code: int | None = None
    process: str | None = None
    owner: str | None = None


class JobStore:
    """Runs jobs, a few at a time, and remembers them. Several servers may share a folder.

    Parameters
    ----------
    folder : Path
        Where the job folders are.
    workers : int
        Jobs that run at the same time.
    max_waiting : int
        Jobs that may wait; more are refused.
    """

    def __init__(self, folder: Path, workers: int = 1, max_waiting: int = 100) -> None:
        self.folder = folder
        self.max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="job")
        self._thread_lock = threading.RLock()
        self._me = identity(os.getpid())
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            for job in reversed(self.list()):
                if job.status not in ENDED and not runs(job.owner):
                    self._take_over(job)

    # ---- what a caller does
    def submit(self, verb: str, arguments: list[str], attached: Path | None = None) -> Job:
        """Queue a verb with its command-line arguments (without ``--json`` and ``--out``, which the job adds).

        Parameters
        ----------
        verb : str
        arguments : list of str
        attached : Path, optional
            A file named by one of the arguments; it moves into the job's folder and lives as long as the job.

        Raises
        ------
        JobStateError
            If too many jobs wait already.
        """
        with self._alone():
            waiting = sum(job.status == "queued" for job in self.list())
            if waiting >= self.max_waiting:
                raise JobStateError(f"{waiting} jobs wait already; try again when some have ended")
            folder = self.path(job_id := f"{verb}-{secrets.token_hex(6)}")
            folder.mkdir()
            if attached is not None:
                moved = shutil.move(attached, folder / attached.name)
                arguments = [str(moved) if word == str(attached) else word for word in arguments]
            job = Job(job_id, verb, tuple(arguments), created=_stamp(), owner=self._me)
            self._save(job)
        self._pool.submit(self._run, job.id)
        return job

    def resume(self, job_id: str) -> Job:
        """Queue an interrupted or cancelled job again; a backtest goes on from its finished folds.

        Raises
        ------
        JobStateError
            If the job has another state, or its process has not ended yet.
        """
        with self._alone():
            job = self.get(job_id)
            if job.status not in ("interrupted", "cancelled"):
                raise JobStateError(
                    f"job {job_id} is {job.status}; only an interrupted or cancelled job can be resumed"
                )
            if runs(job.process):
                raise JobStateError(f"job {job_id} is still stopping; try again in a moment")
            begun = sorted((self.path(job_id) / "runs").glob("*/run.json"))
            arguments = ("--resume", str(begun[-1].parent)) if job.verb == "backtest" and begun else job.arguments
            (self.path(job_id) / "exit.json").unlink(missing_ok=True)
            job = replace(job, status="queued", ended=None, exit_code=None, process=None, arguments=arguments)
            self._save(replace(job, owner=self._me))
        self._pool.submit(self._run, job_id)
        return job

    def cancel(self, job_id: str) -> Job:
        """Stop a job: what it finished is kept. A job that does not end by itself is ended after `GRACE` seconds."""
        with self._alone():
            job = self.get(job_id)
            if job.status in ENDED:
                return job
            job = replace(job, status="cancelled", ended=_stamp())
            self._save(job)
        if runs(job.process):
            _signal(job.process, signal.SIGINT)
            timer = threading.Timer(GRACE, _signal, (job.process, signal.SIGKILL))
            timer.daemon = True
            timer.start()
        return job

    def remove(self, job_id: str) -> None:
        """Delete a job that has ended, with all its files.

        Raises
        ------
        JobStateError
            If it has not ended.
        """
        with self._alone():
            job = self.get(job_id)
            if job.status not in ENDED or runs(job.process):
                raise JobStateError(f"job {job_id} has not ended; cancel it first")
            shutil.rmtree(self.path(job_id))

    def get(self, job_id: str) -> Job:
        """State of a job.

        Raises
        ------
        NoSuchJob
            If there is no such job.
        """
        try:
            values = json.loads((self.path(job_id) / "job.json").read_text())
        except FileNotFoundError:
            raise NoSuchJob(f"no job '{job_id}'") from None
        known = {key: value for key, value in values.items() if key in Job.__dataclass_fields__}
        return Job(**{**known, "arguments": tuple(values["arguments"])})

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        jobs = []
        for file in self.folder.glob("*/job.json"):
            with suppress(NoSuchJob):  # removed meanwhile
                jobs.append(self.get(file.parent.name))
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
        if not _ID.fullmatch(job_id):
            raise NoSuchJob(f"'{job_id[:40]}' is not a job id")
        return self.folder / job_id

    def close(self) -> None:
        """Start no further jobs; running ones go on by themselves, waiting ones wait for the next server."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- how it is done
    def _take_over(self, job: Job) -> None:
        """Look after a job whose server is gone."""
        mine = replace(job, owner=self._me)
        self._save(mine)
        if job.status == "queued":
            self._pool.submit(self._run, job.id)
        elif runs(job.process):
            self._pool.submit(self._watch, job.id)
        else:
            self._settle(job.id)

    def _run(self, job_id: str) -> None:
        with self._alone():
            job = self.get(job_id)
            if job.status != "queued":
                return
            process = self._start(job)
            self._save(replace(job, status="running", process=identity(process.pid)))
        process.wait()
        self._settle(job_id)

    def _watch(self, job_id: str) -> None:
        """Wait for a process that an earlier server started."""
        while runs(self.get(job_id).process):
            time.sleep(0.2)
        self._settle(job_id)

    def _settle(self, job_id: str) -> None:
        """The process has ended: its exit code says how."""
        with self._alone():
            job = self.get(job_id)
            for torn in self.path(job_id).glob(".*.json.*"):
                torn.unlink(missing_ok=True)
            code = _read(self.path(job_id) / "exit.json").get("code")
            if job.status == "running":
                # No code (the machine stopped) or a signal (memory ran out): nothing is wrong with the job itself.
                stopped = code is None or code < 0 or code == 3
                status = "done" if code == 0 else "interrupted" if stopped else "failed"
                self._save(replace(job, status=status, ended=_stamp(), exit_code=code))

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        folder = self.path(job.id)
        # Flags come first: a job's arguments may end in "--" and free text.
        places = ["--out", str(folder / "runs")] if job.verb in WRITES else []
        sub, rest = (job.arguments[:1], job.arguments[1:]) if job.verb == "data" else ((), job.arguments)
        words = [job.verb, *sub, "--json", *places, *rest]
        command = [sys.executable, "-m", "foliocast.runtime.supervise", str(folder), sys.executable, "-m", "foliocast"]
        environment = {**os.environ, "FOLIOCAST_PROGRESS": str(folder / "progress.json")}
        # A session of its own: the server's end does not end the job, and a cancel reaches its workers too.
        return subprocess.Popen(
            [*command, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread and no other server changes the store meanwhile."""
        with self._thread_lock:
            if getattr(self, "_holding", False):
                yield
                return
            with one_at_a_time(self.folder / ".lock"):
                self._holding = True
                try:
                    yield
                finally:
                    self._holding = False

    def _save(self, job: Job) -> None:
        write_json(self.path(job.id) / "job.json", asdict(job))


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def _signal(process: str | None, number: signal.Signals) -> None:
    """Reach every process of the job's session, if it is still that job's."""
    if process is not None and runs(process):
        os.killpg(int(process.partition(":")[0]), number)


def _stamp() -> str:
    return now().isoformat(timespec="milliseconds")
