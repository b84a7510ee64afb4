"""A job's body as the command line that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from foliocast.apps.api import schemas
from foliocast.core.errors import ConfigError
from foliocast.runtime.files import whole_file
from foliocast.workflows.config import parse_config


def command_line(body: Any, folder: Path) -> list[str]:
    """Arguments of the verb; a config sent along is checked and written to ``folder`` first.

    Raises
    ------
    ConfigError
        If the config is wrong; nothing is queued then.
    """
    match body:
        case schemas.BacktestJob() | schemas.AuditJob():
            return _configured(body, folder)
        case schemas.SimulateJob():
            extra = [
                "--model",
                body.model,
                "--assets",
                ",".join(body.assets),
                "--n",
                str(body.n),
                "--horizon",
                str(body.horizon),
            ]
            return [*extra, *_given(body.given), *_shared(body)]
        case schemas.StressJob():
            weights = ",".join(f"{name}={value!r}" for name, value in body.weights.items())
            return ["--weights", weights, "--horizon", str(body.horizon), *_given(body.given), *_shared(body)]
        case schemas.AllocateJob():
            assets = ["--assets", ",".join(body.assets)] if body.assets else []
            return ["--objective", body.objective, "--risk", body.risk, *assets, *_shared(body)]
        case schemas.GenerateJob():
            return ["--n", str(body.n), "--seed", str(body.seed), "--", body.prompt]
        case schemas.ForecastJob():
            return ["--days", str(body.days), *_shared(body), "--", body.ticker]
    raise ConfigError(f"no job of kind {type(body).__name__}")


def _given(given: dict[str, float]) -> list[str]:
    return ["--given", ",".join(f"{name}={value!r}" for name, value in given.items())] if given else []


def _shared(body: Any) -> list[str]:
    return ["--data", body.data, "--seed", str(body.seed)]


def _configured(body: schemas.BacktestJob | schemas.AuditJob, folder: Path) -> list[str]:
    out = []
    if body.config is not None:
        config = parse_config(body.config)
        _refuse_code(body.config)
        _refuse_paths(config.data.source, config.data.members)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "config.toml") as aside:
            aside.write_text(tomli_w.dumps(body.config))
        out.append(str(folder / "config.toml"))
    if body.data is not None:
        out += ["--data", body.data]
    if isinstance(body, schemas.BacktestJob):
        return [*out, *(["--seed", str(body.seed)] if body.seed is not None else [])]
    return [*out, "--cuts", str(body.cuts)]


def _refuse_code(table: Any) -> None:
    """A config over HTTP may name the package's classes, never files of code."""
    if isinstance(table, dict):
        if table.get("type") == "function":
            raise ConfigError(
                'type = "function" runs a file of code and is not accepted over HTTP; use the command line'
            )
        for item in table.values():
            _refuse_code(item)
    elif isinstance(table, list):
        for item in table:
            _refuse_code(item)


def _refuse_paths(*names: str | None) -> None:
    for name in names:
        if name is not None and ("/" in name or "\\" in name or ".." in name):
            raise ConfigError(f"'{name}' is a path; over HTTP data are named by catalog name")
