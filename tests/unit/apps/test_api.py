"""The HTTP API: what it refuses, and what it keeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.main import get_command

from foliocast.apps.api.app import create_app
from foliocast.apps.api.schemas import EXAMPLES
from foliocast.apps.api.settings import Settings, check_binding
from foliocast.apps.cli.main import app as cli
from foliocast.core.errors import ConfigError

TOKEN = "0123456789abcdef0123"


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    with TestClient(create_app(Settings(folder=tmp_path, token=None))) as made:
        yield made


def test_health_needs_nothing(client: TestClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert "sample" in [one["name"] for one in client.get("/data").json()]


def test_an_open_service_is_refused() -> None:
    with pytest.raises(ConfigError, match="without a token"):
        check_binding("0.0.0.0", None)
    with pytest.raises(ConfigError, match="fewer than 16"):
        check_binding("0.0.0.0", "short")
    check_binding("127.0.0.1", None)
    check_binding("::1", None)
    check_binding("0.0.0.0", TOKEN)


def test_the_token_is_asked_for(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(folder=tmp_path, token=TOKEN))) as client:
        assert client.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            answer = client.get("/jobs", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/jobs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_large_and_frequent_requests_are_refused(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, token=None, max_body_bytes=1000, requests_per_minute=5)
    with TestClient(create_app(settings)) as client:
        assert client.post("/jobs", content=b"x" * 2000).status_code == 413
        chunks = (b"x" * 500 for _ in range(4))
        assert client.post("/jobs", content=chunks).status_code == 413
        codes = [client.get("/health").status_code for _ in range(6)]
        assert codes[-1] == 429
        assert codes[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"verb": "dance"}, 422, "dance"),
        ({"verb": "backtest", "config": {"nonsense": 1}}, 400, "unknown key 'nonsense'"),
        ({"verb": "backtest", "config": {"data": {"source": "../../etc/passwd"}}}, 400, "is a path"),
        ({"verb": "backtest", "data": "/etc/passwd"}, 422, "pattern"),
        (
            {"verb": "backtest", "config": {"strategies": {"s": {"type": "function", "path": "evil.py"}}}},
            400,
            "not accepted over HTTP",
        ),
        ({"verb": "simulate", "assets": ["--out=/tmp"]}, 422, "pattern"),
        ({"verb": "generate", "prompt": ""}, 422, "at least 1"),
    ],
)
def test_bad_jobs_are_told_in_one_sentence(client: TestClient, body: dict, status: int, text: str) -> None:
    answer = client.post("/jobs", json=body)
    assert answer.status_code == status
    assert text in answer.json()["error"]
    assert client.get("/jobs").json() == []


def test_malformed_json_and_unknown_jobs(client: TestClient) -> None:
    broken = client.post("/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 422
    assert client.get("/jobs/backtest-0123456789ab").status_code == 404
    assert client.get("/jobs/..%2f..%2fetc").status_code in (404, 422)
    assert client.get("/jobs/backtest-0123456789ab/files/../../x").status_code in (404, 422)


def test_a_job_runs_and_its_result_is_kept(client: TestClient) -> None:
    """The verb is unknown to the sample's data, so it ends at once: with the command line's own sentence."""
    made = client.post("/jobs", json={"verb": "forecast", "ticker": "NOSUCH", "days": 2})
    assert made.status_code == 202
    job = made.json()["id"]
    for _ in range(240):
        state = client.get(f"/jobs/{job}").json()
        if state["status"] in ("done", "failed"):
            break
        time.sleep(0.25)
    assert state["status"] == "failed"
    assert state["exit_code"] == 2
    assert "NOSUCH" in client.get(f"/jobs/{job}/result").json()["error"]
    events = client.get(f"/jobs/{job}/events").text
    assert events.startswith("event: failed")


def test_no_origin_may_call_from_a_browser_unless_named(tmp_path: Path) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with TestClient(create_app(Settings(folder=tmp_path, token=None))) as client:
        assert "access-control-allow-origin" not in client.options("/jobs", headers=asked).headers
    with TestClient(create_app(Settings(folder=tmp_path, token=None, origins=("https://mine.example",)))) as client:
        assert "access-control-allow-origin" not in client.options("/jobs", headers=asked).headers
        mine = client.options("/jobs", headers={**asked, "Origin": "https://mine.example"})
        assert mine.headers["access-control-allow-origin"] == "https://mine.example"


@pytest.fixture
def waiting(client: TestClient) -> Iterator[TestClient]:
    """A service whose one worker is busy, so that jobs wait."""
    release = threading.Event()
    client.app.state.store._pool.submit(release.wait)
    yield client
    for job in client.get("/jobs").json():
        client.post(f"/jobs/{job['id']}/cancel")
    release.set()


def test_every_verb_becomes_a_command_line(waiting: TestClient) -> None:
    store = waiting.app.state.store
    run = store.path("backtest-0123456789ab") / "runs" / "a-run"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    for verb, body in EXAMPLES.items():
        answer = waiting.post("/jobs", json=body)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        arguments = list(store.get(job).arguments)
        get_command(cli).commands[verb].make_context(verb, list(arguments))  # parses, or raises
        if verb == "explain":
            assert arguments[-1] == str(run)
        assert (store.path(job) / "config.toml").is_file() == ("config" in body), "a config lives with its job"
    assert not list((store.folder.parent / "configs").iterdir())
