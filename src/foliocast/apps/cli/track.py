"""``track``: runs and models in MLflow or a folder, and MLflow's own server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Json, Out, console, guarded

app = typer.Typer(
    help="Record runs and models in MLflow or a folder; start MLflow's server.",
    no_args_is_help=True,
)
Where = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="mlflow (SQLite in the product's home), an MLflow address, or a folder. "
        "Default: FOLIOCAST_TRACK, else mlflow.",
        show_default=False,
    ),
]


@app.command("run")
@guarded
def run(
    runs: Annotated[list[str], typer.Argument(help="Folders or ids of finished runs.")],
    to: Where = None,
    out: Out = None,
    as_json: Json = False,
) -> Any:
    """Record finished runs: parameters, metrics with their intervals, and files. Again replaces."""
    from foliocast.workflows.tracking import track_run

    places = [track_run(name, _where(to), out or Path("runs")) for name in runs]
    for place in places:
        console(as_json).print(place, soft_wrap=True)
    return {"recorded": places}


@app.command("model")
@guarded
def model(
    name: Annotated[str, typer.Argument(help="Name or folder of a trained model.")],
    to: Where = None,
    as_json: Json = False,
) -> Any:
    """Register a trained model with its card, as a new version; the same model stays one version."""
    from foliocast.workflows.tracking import track_model

    kept = track_model(name, _where(to))
    console(as_json).print(f"{kept.name}, version {kept.version}: {kept.place}", soft_wrap=True)
    return {"name": kept.name, "version": kept.version, "place": kept.place, "digest": kept.digest}


@app.command("list")
@guarded
def listed(to: Where = None, as_json: Json = False) -> Any:
    """Runs and models that are recorded there."""
    from rich.table import Table

    from foliocast.runtime.tracking import tracker

    store = tracker(_where(to))
    runs, models = store.runs(), store.models()
    table = Table("run", "data", "audit", "strategies")
    for row in runs:
        parts = ", ".join(part["name"] for part in row["parts"])
        table.add_row(row["id"], row["tags"].get("data", ""), row["tags"].get("audit", ""), parts)
    console(as_json).print(table)
    for one in models:
        console(as_json).print(f"model {one.name}, version {one.version}")
    named = [{"name": m.name, "version": m.version, "digest": m.digest, "card": dict(m.card)} for m in models]
    return {"runs": runs, "models": named}


@app.command("serve")
@guarded
def serve(
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8602,
    host: Annotated[str, typer.Option(help="MLflow asks nobody who they are: leave it on loopback.")] = "127.0.0.1",
    folder: Annotated[
        Path | None, typer.Option(help="Database and artefacts. Default: the product's home.", show_default=False)
    ] = None,
    allowed_hosts: Annotated[str, typer.Option(help="Names it answers to besides loopback.")] = "",
) -> None:
    """Start MLflow's server and pages on a SQLite file; record to it with --track http://127.0.0.1:8602."""
    import importlib.util

    from foliocast.core.errors import MissingExtraError
    from foliocast.runtime.home import home

    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError("mlflow", "track")
    place = (folder or home() / "mlflow").absolute()
    place.mkdir(parents=True, exist_ok=True)
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    options = {
        "--backend-store-uri": f"sqlite:///{place / 'mlflow.db'}",
        "--artifacts-destination": str(place / "artifacts"),
        "--host": host,
        "--port": str(port),
        "--workers": "1",
        **({"--allowed-hosts": allowed_hosts} if allowed_hosts else {}),
    }
    print(f"MLflow on http://{host}:{port}, kept in {place}", file=sys.stderr)
    words = [word for pair in options.items() for word in pair]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *words])


def _where(to: str | None) -> str:
    from foliocast.runtime.tracking import chosen

    return chosen(to) or "mlflow"
