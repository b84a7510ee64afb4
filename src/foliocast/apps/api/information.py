"""Routes that answer at once: health, models, forecasts, data sets."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool

import foliocast
from foliocast.apps.api import schemas
from foliocast.apps.api.answers import Answers
from foliocast.apps.api.arguments import known_data
from foliocast.apps.api.jobs import state
from foliocast.apps.api.settings import Settings
from foliocast.apps.api.uploads import NAME, keep_upload
from foliocast.runtime.jobs import JobStore

EXTRAS = {"app": "streamlit", "track": "mlflow", "scale": "ray", "instruments": "QuantLib", "live": "websockets"}
UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "The file as it is: CSV (wide, long, Yahoo or Kaggle layout), CSV packed with gzip, or Parquet.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def routes(answers: Answers) -> APIRouter:
    """``/health``, ``/model/info`` and ``/predict``."""
    router = APIRouter(tags=["answers"])

    @router.get("/health", response_model=schemas.Health)
    def health() -> dict[str, Any]:
        """Whether the service works; a missing extra or model file does not stop it. Needs no token."""
        extras = {name: importlib.util.find_spec(module) is not None for name, module in EXTRAS.items()}
        return {"status": "ok", "version": foliocast.__version__, "extras": extras}

    @router.get("/model/info", response_model=schemas.Models)
    def model_info() -> dict[str, Any]:
        """Cards of the models that ship with the package, of those kept here, and names of the forecasters."""
        from foliocast.runtime.files import plain
        from foliocast.workflows.forecast import model_cards

        return dict(plain(model_cards()))

    @router.get("/predict", response_model=schemas.Prediction)
    async def predict(
        ticker: Annotated[schemas.Ticker, Query()],
        n_days: Annotated[int, Query(ge=1, le=30, description="Trading days ahead.", examples=[7])] = 7,
        data: Annotated[schemas.DataName, Query()] = "sample",
        model: Annotated[schemas.ModelName, Query()] = "attention_lstm",
    ) -> Response:
        """Path and bands for the next trading days of one ticker.

        The first call for a data set fits the model, which takes a while; later ones are quick.
        """
        from foliocast.data import SAMPLES

        version = "" if data in SAMPLES else await run_in_threadpool(known_data, data)

        def compute() -> dict[str, Any]:
            from foliocast.workflows.forecast import forecast

            return forecast(foliocast.load_panel(data), ticker, n_days, model)

        text = await answers.get((ticker, n_days, data, version, model), compute)
        return Response(text, media_type="application/json")

    return router


def data_routes(store: JobStore, settings: Settings) -> APIRouter:
    """``/data``: what there is, and uploads."""
    router = APIRouter(tags=["data"])

    @router.get("/data", response_model=list[schemas.DataSet])
    def listed() -> list[dict[str, Any]]:
        """The embedded samples and everything in the catalog."""
        from foliocast.data import SAMPLES
        from foliocast.data.catalog import Catalog

        samples = [{"name": name, "about": about} for name, about in SAMPLES.items()]
        cards = [
            {"name": card.name, "about": card.source, "start": card.start, "end": card.end, "assets": card.assets}
            for card in Catalog().list()
        ]
        return [*samples, *cards]

    @router.post("/data/{name}", response_model=schemas.JobState, status_code=202, openapi_extra=UPLOAD)
    async def upload(
        request: Request,
        name: Annotated[str, PathParameter(pattern=NAME.pattern, examples=["mine"])],
        form: Annotated[Literal["csv", "csv.gz", "parquet"], Query(description="What the file is.")],
        overwrite: Annotated[bool, Query(description="Replace a data set of that name.")] = False,
    ) -> dict[str, Any]:
        """Import a file of prices into the catalog, as a job: ``curl --data-binary @prices.csv``.

        It is read as data and never executed; what breaks a rule of the catalog is refused in the job's result.
        """
        if name == "sample":
            raise HTTPException(400, "'sample' is taken by the embedded data")
        body = await request.body()
        path = await run_in_threadpool(
            keep_upload, body, form, store.folder.parent / "uploads", settings.max_unpacked_bytes
        )
        arguments = ["import", "--name", name, *(["--overwrite"] if overwrite else []), "--", str(path)]
        try:
            job = await run_in_threadpool(store.submit, "data", arguments, path)
        finally:
            path.unlink(missing_ok=True)
        return state(store, job)

    return router
