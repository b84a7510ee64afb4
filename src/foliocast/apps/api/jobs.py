"""Routes of jobs: every verb as a body, its state, its result, its files."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, StreamingResponse

from foliocast.apps.api import schemas
from foliocast.apps.api.answers import BusyError
from foliocast.apps.api.arguments import command_line
from foliocast.apps.api.settings import Settings
from foliocast.runtime.jobs import ENDED, Job, JobStateError, JobStore

JobId = Annotated[str, PathParameter(pattern=r"^[a-z]+-[0-9a-f]{12}$", examples=["backtest-0123456789ab"])]
TICK = 0.25  # seconds between two looks at a job
FILE_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}
FILE_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {kind: {} for kind in ("application/octet-stream", "text/html; charset=utf-8", "application/json")},
    }
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One event a change: its name is the job's status, its data the job as JSON.",
        "content": {"text/event-stream": {"schema": schemas.Event.model_json_schema()}},
    }
}


def routes(store: JobStore) -> APIRouter:
    """Submit, look, cancel, resume, delete."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.post("", response_model=schemas.JobState, status_code=202)
    def submit(body: schemas.JobBody) -> dict[str, Any]:
        """Queue a verb. A config is checked before anything is queued."""
        folder = store.folder.parent / "configs" / secrets.token_hex(8)
        try:
            arguments = command_line(body, folder)
            config = folder / "config.toml"
            return state(store, store.submit(body.verb, arguments, config if config.is_file() else None))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @router.get("", response_model=list[schemas.JobState])
    def listed() -> list[dict[str, Any]]:
        """All jobs, newest first."""
        return [state(store, job) for job in store.list()]

    @router.get("/{job_id}", response_model=schemas.JobState)
    def one(job_id: JobId) -> dict[str, Any]:
        """Where a job stands."""
        return state(store, store.get(job_id))

    @router.delete("/{job_id}", status_code=204)
    def remove(job_id: JobId) -> None:
        """Delete a job that has ended, with its files."""
        store.remove(job_id)

    @router.post("/{job_id}/cancel", response_model=schemas.JobState)
    def cancel(job_id: JobId) -> dict[str, Any]:
        """Stop a job; what it finished is kept."""
        return state(store, store.cancel(job_id))

    @router.post("/{job_id}/resume", response_model=schemas.JobState)
    def resume(job_id: JobId) -> dict[str, Any]:
        """Go on with an interrupted or cancelled job."""
        return state(store, store.resume(job_id))

    return router


def watching(store: JobStore, settings: Settings) -> APIRouter:
    """Results, events and files."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    streams: set[object] = set()

    @router.get("/{job_id}/result")
    def result(job_id: JobId) -> dict[str, Any]:
        """The JSON object the verb printed: its answer, or ``error`` and ``exit_code``."""
        job = store.get(job_id)
        if job.status not in ENDED:
            raise JobStateError(f"job {job_id} is {job.status}; its result is not there yet")
        return store.result(job_id)

    @router.get("/{job_id}/events", response_class=StreamingResponse, responses=STREAM)
    async def events(job_id: JobId) -> StreamingResponse:
        """Progress as server-sent events, until the job ends."""
        store.get(job_id)
        if len(streams) >= settings.max_streams:
            raise BusyError(f"{len(streams)} streams of events are open already; ask GET /jobs/{job_id} instead")
        stream = _events(store, job_id, settings.stream_seconds, streams)
        return StreamingResponse(stream, media_type="text/event-stream")

    @router.get("/{job_id}/files")
    def files(job_id: JobId) -> list[str]:
        """Files that the job wrote, relative to the job."""
        store.get(job_id)
        return [str(path.relative_to(store.path(job_id))) for path in _written(store.path(job_id))]

    @router.get("/{job_id}/files/{name:path}", response_class=FileResponse, responses=FILE_ANSWER)
    def file(job_id: JobId, name: str) -> FileResponse:
        """One of these files. Only names that the listing shows are served."""
        store.get(job_id)
        folder = store.path(job_id)
        for path in _written(folder):
            if str(path.relative_to(folder)) == name:
                return FileResponse(path, media_type=FILE_TYPES.get(path.suffix, "application/octet-stream"))
        raise HTTPException(404, "no such file in this job")

    return router


def state(store: JobStore, job: Job) -> dict[str, Any]:
    """A job as `schemas.JobState` shows it."""
    shown = {key: value for key, value in asdict(job).items() if key in schemas.JobState.model_fields}
    return {**shown, "progress": store.progress(job.id)}


def _written(folder: Path) -> list[Path]:
    runs = (folder / "runs").rglob("*")
    return sorted(p for p in runs if p.is_file() and not p.is_symlink() and not p.name.startswith("."))


async def _events(store: JobStore, job_id: str, seconds: float, open_now: set[object]) -> AsyncIterator[str]:
    """One event whenever something changed; a comment now and then keeps proxies awake."""
    last, quiet, spent, me = "", 0.0, 0.0, object()
    open_now.add(me)
    try:
        while spent < seconds:
            job = store.get(job_id)
            text = json.dumps(state(store, job))
            if text != last:
                last, quiet = text, 0.0
                yield f"event: {job.status}\ndata: {text}\n\n"
            elif (quiet := quiet + TICK) >= 15:
                quiet = 0.0
                yield ": waiting\n\n"
            if job.status in ENDED:
                return
            await asyncio.sleep(TICK)
            spent += TICK
    finally:
        open_now.discard(me)
