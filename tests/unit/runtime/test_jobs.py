"""Jobs outlive their server: killed at any moment, nothing is lost, half-written or done twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from foliocast.runtime.jobs import ENDED, Job, JobStateError, JobStore, NoSuchJob
from foliocast.runtime.processes import identity, runs

CONFIG = {
    "seed": 3,
    "data": {"source": "sample", "assets": ["NVDA", "GOOG", "AAPL"], "start": "2021-06-01"},
    "schedule": {"train": 252, "test": 21},
    "strategies": {
        "fhs": {
            "type": "ScenarioStrategy",
            "rebalance": 3,
            "horizon": 5,
            "n_scenarios": 300,
            "model": {"type": "FilteredHistoricalSimulation"},
            "policy": {"type": "Optimized", "objective": "min_risk", "risk": "cvar"},
        }
    },
    "baselines": ["equal_weight"],
    "regimes": False,
}


def until(true: Callable[[], Any], seconds: float = 240.0) -> Any:
    """Wait for something to come true; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


class Server:
    """A real ``foliocast serve`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "foliocast", "serve", "--port", str(port), "--folder", str(folder)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        until(self._up)

    def _up(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            assert self.process.poll() is None, "the server ended"
            return False

    def job(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"/jobs/{job_id}").json()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def started() -> Iterator[Callable[[Path], Server]]:
    servers: list[Server] = []

    def start(folder: Path) -> Server:
        servers.append(Server(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def assert_nothing_is_half_written(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            if file.suffix == ".json":
                json.loads(file.read_text())
            elif file.suffix == ".parquet" and not any(part.startswith(".") for part in file.parts):
                pd.read_parquet(file)


def test_a_killed_server_and_a_killed_job_are_taken_up_by_the_next_server(
    tmp_path: Path, started: Callable[[Path], Server]
) -> None:
    first = started(tmp_path)
    job_id = first.client.post("/jobs", json={"verb": "backtest", "config": CONFIG}).json()["id"]
    waiting = first.client.post("/jobs", json={"verb": "forecast", "ticker": "NOSUCH"}).json()["id"]
    until(lambda: first.job(job_id)["progress"].get("done", 0) >= 2)
    assert first.job(job_id)["status"] == "running"
    record = json.loads((tmp_path / "jobs" / job_id / "job.json").read_text())
    first.kill()

    assert runs(record["process"]), "the job goes on without its server"
    os.killpg(int(record["process"].partition(":")[0]), signal.SIGKILL)  # and now the job is killed, too
    until(lambda: not runs(record["process"]))
    assert_nothing_is_half_written(tmp_path)
    before = sorted(path.name for path in (tmp_path / "jobs" / job_id / "runs").glob("*/folds/*"))
    assert len(before) >= 2

    second = started(tmp_path)
    state = second.job(job_id)
    assert (state["status"], state["exit_code"]) == ("interrupted", None)
    done = until(lambda: (s := second.job(waiting))["status"] in ENDED and s)
    assert (done["status"], done["exit_code"]) == ("failed", 2), "what waited was queued again and ran"
    assert second.client.post(f"/jobs/{job_id}/resume").status_code == 200
    until(lambda: second.job(job_id)["status"] == "running")
    second.kill()  # this time the job is left to end by itself, with nobody watching
    exit_file = tmp_path / "jobs" / job_id / "exit.json"
    until(exit_file.is_file)

    third = started(tmp_path)
    assert third.job(job_id)["status"] == "done"
    result = third.client.get(f"/jobs/{job_id}/result").json()
    assert len(list((tmp_path / "jobs" / job_id / "runs").iterdir())) == 1, "one run, resumed, not a second one"
    assert_nothing_is_half_written(tmp_path)
    assert result["strategies"] == undisturbed(tmp_path / "again")


def undisturbed(folder: Path) -> dict[str, Any]:
    """The same run in one go, in this process."""
    from foliocast.runtime.files import plain
    from foliocast.workflows.backtest import run
    from foliocast.workflows.config import parse_config

    return json.loads(json.dumps(plain(run(parse_config(CONFIG), folder).metrics)))["strategies"]


def test_a_cancelled_job_stops_and_can_be_removed(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.submit("forecast", ["NOSUCH"])
    until(lambda: store.get(job.id).status == "running")
    process = store.get(job.id).process
    with pytest.raises(JobStateError, match="cancel it first"):
        store.remove(job.id)
    assert store.cancel(job.id).status == "cancelled"
    until(lambda: not runs(process))
    assert store.get(job.id).status == "cancelled"
    store.remove(job.id)
    with pytest.raises(NoSuchJob):
        store.get(job.id)
    store.close()


def test_a_queue_has_an_end(tmp_path: Path) -> None:
    store = JobStore(tmp_path, max_waiting=2)
    store.close()  # nothing more is started
    for name in ("forecast-000000000001", "forecast-000000000002"):
        (tmp_path / name).mkdir()
        store._save(Job(name, "forecast", ("X",), owner=identity(os.getpid())))
    with pytest.raises(JobStateError, match="2 jobs wait already"):
        store.submit("forecast", ["NVDA"])


def test_a_second_server_leaves_the_jobs_of_a_living_one_alone(tmp_path: Path) -> None:
    (tmp_path / "forecast-000000000001").mkdir()
    store = JobStore(tmp_path)
    store._save(Job("forecast-000000000001", "forecast", ("X",), owner=identity(os.getppid())))
    second = JobStore(tmp_path)
    assert second.get("forecast-000000000001").status == "queued"
    assert second.get("forecast-000000000001").owner == identity(os.getppid())
    for one in (store, second):
        one.close()


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    mine = identity(os.getpid())
    assert runs(mine)
    assert not runs(f"{os.getpid()}:1"), "the same number, another start"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    name = identity(ended.pid)
    until(lambda: not runs(name))  # a zombie does not run
    ended.wait()


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "backtest-0123456789ab\n", "backtest-0123456789AB", "x" * 99])
def test_an_id_reaches_no_other_path(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(NoSuchJob):
        JobStore(tmp_path).path(job_id)
