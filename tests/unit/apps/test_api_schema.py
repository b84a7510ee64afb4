"""Every operation, asked with whatever its schema allows and forbids: no answer breaks the schema, none is a 5xx."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from foliocast.apps.api.app import create_app
from foliocast.apps.api.settings import Settings

JUDGED = {"GET /predict", "POST /jobs", "POST /data/{name}"}
# The cases are made when tests are collected, so the service stands here and not in a fixture.
_PLACE = tempfile.TemporaryDirectory(prefix="service-")
SERVICE = create_app(Settings(folder=Path(_PLACE.name), token=None, requests_per_minute=0, max_waiting=1000))
SERVICE.router.lifespan_context = lambda _: nullcontext()  # each case would start and end the service
schema = schemathesis.openapi.from_asgi("/openapi.json", SERVICE)


@pytest.fixture(scope="module", autouse=True)
def _busy() -> Iterator[None]:
    """Its one worker is busy, so that jobs wait: what is tested is the door, not the work behind it."""
    release = threading.Event()
    SERVICE.state.store._pool.submit(release.wait)
    yield
    SERVICE.state.store.close()
    release.set()


@schema.parametrize()
@settings(max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_every_answer_keeps_to_the_schema(case: schemathesis.Case) -> None:
    if case.operation.path == "/predict" and case.query:
        case.query["model"] = "naive"  # the others would be fitted first
    # What the schema cannot say: that a ticker is in the data, that a config is sound, that bytes are Parquet.
    told = [positive_data_acceptance] if case.operation.label in JUDGED else []
    case.call_and_validate(excluded_checks=told, timeout=300)


def test_the_schema_holds_for_a_job_from_first_to_last() -> None:
    client = TestClient(SERVICE)
    job = client.post("/jobs", json={"verb": "forecast", "ticker": "NVDA"}).json()["id"]
    steps = [
        ("/jobs/{job_id}", "GET", 200),
        ("/jobs/{job_id}/result", "GET", 409),
        ("/jobs/{job_id}/resume", "POST", 409),
        ("/jobs/{job_id}", "DELETE", 409),
        ("/jobs/{job_id}/cancel", "POST", 200),
        ("/jobs/{job_id}/events", "GET", 200),
        ("/jobs/{job_id}/files", "GET", 200),
        ("/jobs/{job_id}/resume", "POST", 200),
        ("/jobs/{job_id}/cancel", "POST", 200),
        ("/jobs/{job_id}/result", "GET", 200),
        ("/jobs/{job_id}", "DELETE", 204),
        ("/jobs/{job_id}", "GET", 404),
    ]
    for path, method, status in steps:
        case = schema[path][method].Case(path_parameters={"job_id": job})
        answer = case.call_and_validate(timeout=300)
        assert answer.status_code == status, (path, method)


def test_the_schema_has_an_example_of_every_verb() -> None:
    spec = TestClient(SERVICE).get("/openapi.json").json()
    examples = spec["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    verbs = {name for name in spec["components"]["schemas"] if name.endswith("Job")}
    assert {f"{name.capitalize()}Job" for name in examples} == verbs
    client = TestClient(SERVICE)
    for name, example in examples.items():
        if name == "explain":
            assert client.post("/jobs", json=example["value"]).status_code == 404, "there is no such run"
            continue
        assert client.post("/jobs", json=example["value"]).status_code == 202, name
    assert Path(SERVICE.state.settings.folder / "jobs").is_dir()
