"""`foliocast.runtime.tracking` in MLflow: a SQLite file beside its artefacts, or any server by its address."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foliocast.core.errors import FoliocastError, MissingExtraError
from foliocast.runtime.tracking import KeptModel, Record, card_of, checked_name, digest_of

EXPERIMENT = "foliocast"
ID, DIGEST = "foliocast.run", "foliocast.digest"
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_BATCH = 90  # MLflow takes 100 parameters or tags at a time
_LONGEST = 5000  # characters of a parameter or tag


class TrackingError(FoliocastError):
    """The tracking store did not take or give what was asked."""


class MlflowTracker:
    """Runs and models in an MLflow store.

    A run is an MLflow run tagged with its id, its strategies are runs nested in it. A saved model is a run with the
    model's files, and a version in MLflow's registry that points to them and carries the card.

    Parameters
    ----------
    uri : str
        ``sqlite:///file.db`` (made on first use), ``http://host:port``, or any other that MLflow takes.
    experiment : str
    """

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        self.uri, self.experiment = uri, experiment
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingExtraError("mlflow", "track") from error
        self._file = Path(uri.partition(":///")[2]) if uri.startswith("sqlite:///") else None
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def record(self, run: Record) -> str:
        """Keep a run and its parts; earlier ones of the same id are deleted once the new one is whole."""
        with _told(self.uri):
            experiment = self._experiment()
            earlier = self._found(experiment, f"tags.`{ID}` = '{run.id}'")
            made = self._log(experiment, run, None)
            for part in run.parts:
                self._log(experiment, part, made)
            for old in earlier:
                for inner in self._found(experiment, f"tags.`mlflow.parentRunId` = '{old.info.run_id}'"):
                    self.client.delete_run(inner.info.run_id)
                self.client.delete_run(old.info.run_id)
        return f"{self.uri} experiment {self.experiment}, run {made}"

    def register(self, name: str, folder: Path) -> KeptModel:
        """Keep a saved model as the next version, unless this very content is one already."""
        card, digest = card_of(folder), digest_of(folder)
        checked_name(name)
        with _told(self.uri):
            for known in self.models():
                if (known.name, known.digest) == (name, digest):
                    return known
            tags = {DIGEST: digest, **{f"card.{key}": _short(value) for key, value in card.items()}}
            run = self._log(self._experiment(), Record(f"model-{digest[:16]}", f"model {name}", tags=tags), None)
            self.client.log_artifacts(run, str(folder), "model")
            self._named(name)
            source = f"{self.client.get_run(run).info.artifact_uri}/model"
            described = "\n".join(f"- {key}: {_short(value)}" for key, value in card.items())
            version = self.client.create_model_version(
                name, source, run, tags={DIGEST: digest, "foliocast.card": _short(card)}, description=described
            )
        return KeptModel(name, str(version.version), digest, card, str(version.source))

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first; models' and nested runs are left out."""
        with _told(self.uri):
            found = self._found(self._experiment(), "")
        inside: dict[str, list[dict[str, Any]]] = {}
        rows = []
        for run in found:
            row = _row(run)
            parent = run.data.tags.get("mlflow.parentRunId")
            if parent is not None:
                inside.setdefault(parent, []).append(row)
            elif DIGEST not in run.data.tags:
                rows.append({**row, "run": run.info.run_id})
        return [{"parts": inside.get(row.pop("run"), []), **row} for row in rows]

    def models(self) -> list[KeptModel]:
        """Every version of every model in the registry that carries a card of ours."""
        import json

        with _told(self.uri):
            versions = self.client.search_model_versions()
        kept = []
        for version in versions:
            if DIGEST in version.tags:
                try:
                    card = json.loads(version.tags.get("foliocast.card", "{}"))
                except ValueError:  # a card longer than a tag
                    card = {}
                place = str(version.source)
                kept.append(KeptModel(version.name, str(version.version), version.tags[DIGEST], card, place))
        return sorted(kept, key=lambda model: (model.name, int(model.version)))

    # ---- how it is done
    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        # Without a server artefacts would go to the working folder, wherever that is.
        place = None if self._file is None else (self._file.absolute().parent / "artifacts").as_uri()
        return str(self.client.create_experiment(self.experiment, artifact_location=place))

    def _found(self, experiment: str, query: str) -> list[Any]:
        found, token = [], None
        while True:
            page = self.client.search_runs([experiment], query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _log(self, experiment: str, run: Record, parent: str | None) -> str:
        from mlflow.entities import Metric, Param, RunTag

        tags = {**run.tags, **({"mlflow.parentRunId": parent} if parent else {ID: run.id})}
        made = self.client.create_run(experiment, run_name=run.name)
        name, stamp = str(made.info.run_id), int(time.time() * 1000)
        params = [Param(key, _short(value)) for key, value in run.parameters.items()]
        metrics = [Metric(key, value, stamp, 0) for key, value in run.metrics.items()]
        for some in _batches(params):
            self.client.log_batch(name, params=some)
        for some in _batches(metrics):
            self.client.log_batch(name, metrics=some)
        for some in _batches([RunTag(key, _short(value)) for key, value in tags.items()]):
            self.client.log_batch(name, tags=some)
        for file in run.files:
            self.client.log_artifact(name, str(file))
        self.client.set_terminated(name)
        return name

    def _named(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name, description="Kept by Foliocast: safetensors and a card.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


class _told:
    """Turns whatever a store may raise into one sentence."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, FoliocastError):
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise TrackingError(f"the tracking store at {self.uri} did not answer as it should: {said}") from error


def _row(run: Any) -> dict[str, Any]:
    own = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    return {
        "id": own.pop(ID, run.info.run_name),
        "name": run.info.run_name,
        "parameters": dict(run.data.params),
        "tags": own,
        "metrics": dict(run.data.metrics),
    }


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])


def _short(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
