"""The service: settings, middleware, errors, and the routes of its modules."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path

import foliocast
from foliocast.apps.api import information, jobs, schemas
from foliocast.apps.api.answers import Answers, BusyError
from foliocast.apps.api.arguments import UnknownData
from foliocast.apps.api.guard import Guard
from foliocast.apps.api.settings import Settings
from foliocast.apps.api.uploads import TooLargeError
from foliocast.core.errors import FoliocastError
from foliocast.runtime.jobs import JobStateError, JobStore, NoSuchJob

TOLD = {
    400: "Wrong in content: the sentence says what.",
    401: "No token, or a wrong one.",
    404: "There is no such thing.",
    408: "The request did not arrive in time.",
    409: "Not possible in the state that the job is in, or too many jobs wait.",
    413: "Too large, packed or unpacked.",
    421: "Called by a name that is not this service's.",
    422: "Malformed.",
    429: "Too many requests.",
    503: "Not yet: try again in a moment.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": text} for code, text in TOLD.items()
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service.

    Parameters
    ----------
    settings : Settings, optional
        Default: loopback use, no token, folder in the product's home.
    """
    settings = settings or Settings()
    store = JobStore(settings.folder / "jobs", workers=settings.workers, max_waiting=settings.max_waiting)
    answers = Answers(settings.answer_seconds, settings.max_waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()
        answers.close()

    app = FastAPI(
        title="Foliocast",
        version=foliocast.__version__,
        description="Forecasts, scenarios, allocation and audited backtests over HTTP. Long work runs as jobs.",
        lifespan=lifespan,
        responses=PROBLEMS,
        docs_url=None,
        redoc_url=None,
        # The guard checks the token before anything is parsed; this tells readers of the schema about it.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.token else [],
    )
    app.state.store, app.state.settings = store, settings
    app.add_middleware(Guard, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    _errors(app)
    app.include_router(information.routes(answers))
    app.include_router(information.data_routes(store, settings))
    app.include_router(jobs.routes(store))
    app.include_router(jobs.watching(store, settings))
    return app


def _errors(app: FastAPI) -> None:
    """Every refusal is one sentence under ``error``."""

    @app.exception_handler(FoliocastError)
    async def told(_: Request, error: FoliocastError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=_status(error))

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=503, headers={"Retry-After": "10"})

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        return JSONResponse({"error": f"{where}: {fault['msg']}"}, status_code=422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request.url.path))  # of all routes of the path, not of one
        return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        logging.getLogger("foliocast.api").exception("bug in %s %s", request.method, request.url.path, exc_info=error)
        return JSONResponse({"error": "this is a bug in foliocast; the service's log says more"}, status_code=500)


def _methods(app: FastAPI, path: str) -> list[str]:
    found: set[str] = set()
    for template, item in app.openapi()["paths"].items():
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in item}
    return sorted(found)


def _status(error: FoliocastError) -> int:
    match error:
        case NoSuchJob() | UnknownData():
            return 404
        case JobStateError():
            return 409
        case TooLargeError():
            return 413
        case _:
            return 404 if str(error).startswith("no data for") else 400
