"""Routes of the HTTP API. Each one parses, calls one workflow or the job store, and answers."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.middleware.cors import CORSMiddleware

import foliocast
from foliocast.apps.api import schemas
from foliocast.apps.api.arguments import command_line
from foliocast.apps.api.guard import Guard
from foliocast.apps.api.settings import Settings
from foliocast.core.errors import FoliocastError
from foliocast.runtime.jobs import ENDED, Job, JobStore

JobId = Annotated[str, PathParameter(pattern=r"^[a-z]+-[0-9a-f]{12}$", examples=["backtest-0123456789ab"])]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Problem},
    401: {"model": schemas.Problem},
    404: {"model": schemas.Problem},
    409: {"model": schemas.Problem},
    413: {"model": schemas.Problem},
    422: {"model": schemas.Problem},
    429: {"model": schemas.Problem},
}
EXTRAS = {"app": "streamlit", "track": "mlflow", "scale": "ray", "instruments": "QuantLib", "live": "websockets"}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service.

    Parameters
    ----------
    settings : Settings, optional
        Default: loopback use, no token, folder in the product's home.
    """
    settings = settings or Settings()
    store = JobStore(settings.folder / "jobs", workers=settings.workers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(
        title="Foliocast",
        version=foliocast.__version__,
        description="Forecasts, scenarios, allocation and audited backtests over HTTP. Long work runs as jobs.",
        lifespan=lifespan,
        responses=PROBLEMS,
        docs_url=None,
        redoc_url=None,
    )
    app.state.store, app.state.settings = store, settings
    app.add_middleware(Guard, settings=settings)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["GET", "POST"])
    _errors(app)
    _information(app)
    _jobs(app, store)
    _files(app, store)
    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(FoliocastError)
    async def told(_: Request, error: FoliocastError) -> JSONResponse:
        status = 404 if str(error).startswith(("no job", "no data for")) else 400
        return JSONResponse({"error": str(error)}, status_code=status)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        return JSONResponse({"error": f"{where}: {fault['msg']}"}, status_code=422)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)


def _information(app: FastAPI) -> None:
    @app.get("/health", response_model=schemas.Health)
    def health() -> dict[str, Any]:
        """Whether the service works; a missing extra or model file does not stop it."""
        extras = {name: importlib.util.find_spec(module) is not None for name, module in EXTRAS.items()}
        return {"status": "ok", "version": foliocast.__version__, "extras": extras, "datasets": _datasets()}

    @app.get("/model/info")
    def model_info() -> dict[str, Any]:
        """Cards of the models that ship with the package and of the forecaster behind ``/predict``."""
        from foliocast.workflows.forecast import model_cards

        return model_cards()

    @app.get("/predict", response_model=schemas.Prediction)
    def predict(
        ticker: Annotated[schemas.Ticker, Query()],
        n_days: Annotated[int, Query(ge=1, le=30, description="Trading days ahead.")] = 7,
        data: Annotated[schemas.DataName, Query()] = "sample",
    ) -> dict[str, Any]:
        """Path and bands for the next trading days of one ticker."""
        from foliocast.workflows.forecast import served_forecast

        return served_forecast(ticker, n_days, data)


def _jobs(app: FastAPI, store: JobStore) -> None:
    @app.post("/jobs", response_model=schemas.JobState, status_code=202)
    def submit(body: schemas.AnyJob) -> dict[str, Any]:
        """Queue a verb. A config is checked before anything is queued."""
        import secrets

        arguments = command_line(body, store.folder.parent / "configs" / secrets.token_hex(8))
        return _state(store, store.submit(body.verb, arguments))

    @app.get("/jobs", response_model=list[schemas.JobState])
    def listed() -> list[dict[str, Any]]:
        """All jobs, newest first."""
        return [_state(store, job) for job in store.list()]

    @app.get("/jobs/{job_id}", response_model=schemas.JobState)
    def state(job_id: JobId) -> dict[str, Any]:
        """Where a job stands."""
        return _state(store, store.get(job_id))

    @app.post("/jobs/{job_id}/cancel", response_model=schemas.JobState)
    def cancel(job_id: JobId) -> dict[str, Any]:
        """Stop a job; what it finished is kept."""
        return _state(store, store.cancel(job_id))

    @app.post("/jobs/{job_id}/resume", response_model=schemas.JobState)
    def resume(job_id: JobId) -> dict[str, Any]:
        """Go on with an interrupted or cancelled job."""
        return _state(store, store.resume(job_id))

    @app.get("/jobs/{job_id}/result")
    def result(job_id: JobId) -> dict[str, Any]:
        """The JSON object the verb printed."""
        job = store.get(job_id)
        if job.status not in ENDED:
            raise HTTPException(409, f"job {job_id} is {job.status}; its result is not there yet")
        return store.result(job_id)

    @app.get("/jobs/{job_id}/events", response_class=StreamingResponse)
    async def events(job_id: JobId) -> StreamingResponse:
        """Progress as server-sent events, until the job ends."""
        store.get(job_id)
        return StreamingResponse(_events(store, job_id), media_type="text/event-stream")


def _files(app: FastAPI, store: JobStore) -> None:
    @app.get("/jobs/{job_id}/files")
    def files(job_id: JobId) -> list[str]:
        """Files that the job wrote, relative to its run."""
        store.get(job_id)
        return [str(path.relative_to(store.path(job_id))) for path in _written(store.path(job_id))]

    @app.get("/jobs/{job_id}/files/{name:path}", response_class=FileResponse)
    def file(job_id: JobId, name: str) -> FileResponse:
        """One of these files. Only names that the listing shows are served."""
        store.get(job_id)
        folder = store.path(job_id)
        for path in _written(folder):
            if str(path.relative_to(folder)) == name:
                return FileResponse(path)
        raise HTTPException(404, "no such file in this job")


def _written(folder: Path) -> list[Path]:
    runs = (folder / "runs").rglob("*")
    return sorted(p for p in runs if p.is_file() and not p.is_symlink() and not p.name.startswith("."))


def _datasets() -> list[str]:
    from foliocast.data.catalog import Catalog

    return ["sample", *(entry.name for entry in Catalog().list())]


def _state(store: JobStore, job: Job) -> dict[str, Any]:
    shown = {key: value for key, value in asdict(job).items() if key in schemas.JobState.model_fields}
    return {**shown, "progress": store.progress(job.id)}


async def _events(store: JobStore, job_id: str) -> AsyncIterator[str]:
    """One event whenever something changed; a comment now and then keeps proxies awake."""
    last, quiet = "", 0.0
    while True:
        job = store.get(job_id)
        text = json.dumps(_state(store, job))
        if text != last:
            last, quiet = text, 0.0
            yield f"event: {job.status}\ndata: {text}\n\n"
        elif (quiet := quiet + 0.25) >= 15:
            quiet = 0.0
            yield ": waiting\n\n"
        if job.status in ENDED:
            return
        await asyncio.sleep(0.25)
