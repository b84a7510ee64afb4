"""What a stranger may try at the door of the service."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from foliocast.apps.api.app import create_app
from foliocast.apps.api.settings import Settings
from foliocast.apps.api.uploads import TooLargeError, keep_upload
from foliocast.core.errors import DataError

TOKEN = "0123456789abcdef0123"
CSV = b"date,AAA,BBB\n2020-01-02,10,20\n2020-01-03,11,21\n2020-01-06,11,22\n"


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with TestClient(create_app(Settings(folder=tmp_path / "service", token=None))) as made:
        yield made


def ended(client: TestClient, job: str) -> dict[str, Any]:
    for _ in range(600):
        state = client.get(f"/jobs/{job}").json()
        if state["status"] not in ("queued", "running"):
            return state
        time.sleep(0.2)
    raise AssertionError("the job did not end")


# ---- paths
@pytest.mark.parametrize(
    "path",
    [
        "/jobs/../../etc/passwd",
        "/jobs/..%2f..%2fetc%2fpasswd",
        "/jobs/backtest-0123456789ab/files/..%2f..%2f..%2fsecret.txt",
        "/jobs/backtest-0123456789ab/files/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "/jobs/backtest-0123456789ab/files/..%5c..%5csecret.txt",
        "/jobs/backtest-0123456789ab/files//etc/passwd",
        "/jobs/backtest-0123456789ab/files/job.json",
        "/jobs/backtest-0123456789ab/files/runs/link",
    ],
)
def test_no_path_leaves_the_files_of_a_job(client: TestClient, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "service" / "jobs" / "backtest-0123456789ab"
    (folder / "runs").mkdir(parents=True)
    (folder / "job.json").write_text('{"id": "backtest-0123456789ab", "verb": "backtest", "arguments": ["--x"]}')
    (folder / "runs" / "link").symlink_to(tmp_path / "secret.txt")
    (folder / "runs" / "report.html").write_text("<p>report</p>")
    assert client.get("/jobs/backtest-0123456789ab/files").json() == ["runs/report.html"]
    answer = client.get(path)
    assert answer.status_code in (404, 405, 422)
    assert "secret" not in answer.text.replace("secret.txt", "")
    page = client.get("/jobs/backtest-0123456789ab/files/runs/report.html")
    assert page.status_code == 200
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body",
    [
        {"verb": "backtest", "config": {"data": {"source": "prices.csv"}}},
        {"verb": "backtest", "config": {"data": {"source": "sample", "members": "members"}}},
        {"verb": "backtest", "config": {"data": {"source": "sample", "members": "/etc/passwd"}}},
        {"verb": "backtest", "config": {"strategies": {"s": {"type": "EqualWeight", "deep": [{"x": "../../x"}]}}}},
        {"verb": "backtest", "config": {"strategies": {"~/x": {"type": "EqualWeight"}}}},
        {"verb": "simulate", "assets": ["NVDA"], "data": "prices.csv"},
        {"verb": "allocate", "data": "..%2fx"},
        {"verb": "simulate", "assets": ["NVDA"], "model": "../model"},
        {"verb": "simulate", "assets": ["--out"]},
        {"verb": "stress", "weights": {"NVDA": 1e999}},
        {"verb": "generate", "prompt": "x", "out": "/tmp"},
    ],
    ids=str,
)
def test_no_job_names_a_path_or_an_option(client: TestClient, tmp_path: Path, body: dict[str, Any]) -> None:
    (tmp_path / "prices.csv").write_bytes(CSV)
    raw = json.dumps(body)
    answer = client.post("/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404, 422), answer.text
    assert client.get("/jobs").json() == []


def test_words_of_a_prompt_are_never_options(client: TestClient) -> None:
    job = client.post("/jobs", json={"verb": "generate", "prompt": "--help", "n": 1}).json()
    arguments = client.app.state.store.get(job["id"]).arguments
    assert arguments[-2:] == ("--", "--help")
    client.post(f"/jobs/{job['id']}/cancel")


# ---- bodies
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"verb": "backtest", "config": ' + b"[" * 100_000,
        b'{"verb": "backtest", "config": {"name": "\\ud800"}}',
        b'{"verb": "backtest", "config": {"name": null}}',
        b'{"verb": "backtest", "config": ' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}",
        b"\xff\xfe\x00",
        b'{"verb": "stress", "weights": {"NVDA": NaN}}',
    ],
    ids=lambda b: repr(b[:40]),
)
def test_malformed_json_is_told_and_queues_nothing(client: TestClient, content: bytes) -> None:
    answer = client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]
    assert client.get("/jobs").json() == []


def test_a_form_of_another_site_is_not_a_job(client: TestClient) -> None:
    """Browsers send text/plain across sites without asking first."""
    body = '{"verb": "forecast", "ticker": "NVDA"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert client.post("/jobs", content=body, headers={"Content-Type": kind}).status_code in (400, 415, 422)
    assert client.get("/jobs").json() == []


def test_an_oversized_body_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * 100_000

    with TestClient(create_app(Settings(folder=tmp_path, token=None, max_body_bytes=1_000_000))) as client:
        assert client.post("/data/x?form=csv", content=b"x", headers={"Content-Length": "9999999"}).status_code == 413
        assert client.post("/data/x?form=csv", content=endless()).status_code == 413
        assert client.post("/jobs", content=b" " * 1_000_001).status_code == 413
        assert client.get("/jobs").json() == []


# ---- uploads
def test_an_upload_is_imported_and_can_be_used(client: TestClient) -> None:
    made = client.post("/data/mine?form=csv.gz", content=gzip.compress(CSV))
    assert made.status_code == 202
    assert ended(client, made.json()["id"])["status"] == "done"
    assert [d["assets"] for d in client.get("/data").json() if d["name"] == "mine"] == [["AAA", "BBB"]]
    answer = client.get("/predict", params={"ticker": "AAA", "data": "mine", "model": "naive"})
    assert (answer.status_code, answer.json()["last_price"]) == (200, 11.0)
    again = client.post("/data/mine?form=csv", content=CSV).json()["id"]
    assert ended(client, again)["status"] == "failed"
    assert "already holds" in client.get(f"/jobs/{again}/result").json()["error"]
    assert not list((client.app.state.settings.folder / "uploads").iterdir())


def test_a_gzip_bomb_is_refused_and_never_held_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b"0" * (40 << 20))
    assert len(bomb) < 1 << 20
    with TestClient(create_app(Settings(folder=tmp_path, token=None, max_unpacked_bytes=4 << 20))) as client:
        answer = client.post("/data/bomb?form=csv.gz", content=bomb)
    assert answer.status_code == 413
    assert "unpacks to more than 4 MiB" in answer.json()["error"]
    assert not list(tmp_path.rglob("*.gz"))
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        keep_upload(bomb, "csv.gz", tmp_path, 30 << 20)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_bombs_of_several_members_and_of_parquet_are_refused(tmp_path: Path) -> None:
    member = gzip.compress(b"0" * 700_000)
    keep_upload(member, "csv.gz", tmp_path, 1_000_000)
    with pytest.raises(TooLargeError):
        keep_upload(member * 2, "csv.gz", tmp_path, 1_000_000)
    buffer = io.BytesIO()
    ones = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000_000, np.int8)), pa.array([1.0]))
    pq.write_table(pa.table({"close": ones}), buffer)
    assert buffer.tell() < 1_000_000, "sixty million cells in a quarter of a megabyte"
    with pytest.raises(TooLargeError, match="60000000 cells"):
        keep_upload(buffer.getvalue(), "parquet", tmp_path, 1 << 30)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("csv.gz", b"PK\x03\x04 a zip archive"),
        ("csv.gz", gzip.compress(CSV)[:-9]),
        ("csv.gz", gzip.compress(CSV) + b"trailing"),
        ("parquet", b"PAR1" + b"\xff" * 64 + b"PAR1"),
        ("parquet", b"\x80\x04\x95 a pickle"),
        ("csv", b""),
    ],
)
def test_an_upload_that_is_not_what_it_says_is_refused(tmp_path: Path, form: str, body: bytes) -> None:
    with pytest.raises(DataError):
        keep_upload(body, form, tmp_path, 1 << 20)
    assert not list(tmp_path.iterdir())


def test_code_in_an_upload_is_text(client: TestClient, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    evil = f"date,AAA\n2020-01-02,__import__('pathlib').Path({str(mark)!r}).touch()\n2020-01-03,=cmd|' /C calc'!A0\n"
    job = client.post("/data/evil?form=csv", content=evil.encode()).json()["id"]
    assert ended(client, job)["status"] == "failed"
    assert not mark.exists()
    assert "evil" not in [d["name"] for d in client.get("/data").json()]


# ---- who may call
@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
def test_every_operation_but_health_asks_for_the_token(tmp_path: Path, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    app = create_app(Settings(folder=tmp_path, token=TOKEN))
    with TestClient(app) as client:
        for path, operations in app.openapi()["paths"].items():
            for method in operations:
                where = path.format(job_id="backtest-0123456789ab", name="x")
                answer = client.request(method, where, headers=headers)
                assert answer.status_code == (200 if path == "/health" else 401), (method, path)
        assert set(client.get("/health").json()) == {"status", "version", "extras"}, "no names of data without a token"
        assert client.get("/openapi.json", headers=headers).status_code == 401
        spec = client.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert spec["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_a_page_whose_name_turns_into_loopback_is_not_answered(client: TestClient) -> None:
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/health", headers={"Host": "127.0.0.1.evil.example:8600"}).status_code == 421
    for host in ("127.0.0.1:8600", "localhost", "[::1]:8600"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_an_open_service_without_a_token_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLIOCAST_API_TOKEN", raising=False)
    command = [sys.executable, "-m", "foliocast", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "refusing to serve on 0.0.0.0 without a token" in done.stderr


def test_a_slow_body_is_not_waited_for(tmp_path: Path) -> None:
    import asyncio

    app = create_app(Settings(folder=tmp_path, token=None, body_seconds=0.05))
    sent: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError("waited for")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    head = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"10")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/jobs",
        "raw_path": b"/jobs",
        "query_string": b"",
        "headers": head,
    }
    asyncio.run(app({**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http"}, never, send))
    assert sent[0]["status"] == 408
