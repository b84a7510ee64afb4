"""A job's body as the command line that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from foliocast.apps.api import schemas
from foliocast.core.errors import ConfigError
from foliocast.runtime.files import whole_file
from foliocast.workflows.config import checked, parse_config


class UnknownData(ConfigError):
    """No data set of this name."""


def command_line(body: Any, folder: Path) -> list[str]:
    """Arguments of the verb; a config sent along is checked and written to ``folder`` first.

    Raises
    ------
    ConfigError
        If the config is wrong; nothing is queued then.
    """
    match body:
        case schemas.BacktestJob() | schemas.AuditJob() | schemas.TrainJob() | schemas.ScoreJob() | schemas.SearchJob():
            return _configured(body, folder)
        case schemas.ExplainJob():
            return ["--folds", str(body.folds), str(_run_of(body.job, folder.parents[1] / "jobs"))]
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
    known_data(body.data)
    return ["--data", body.data, "--seed", str(body.seed)]


def _configured(body: Any, folder: Path) -> list[str]:
    out = []
    if body.config is not None:
        text = _checked(body)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "config.toml") as aside:
            aside.write_bytes(text)
        out.append(str(folder / "config.toml"))
    if getattr(body, "data", None) is not None:
        known_data(body.data)
        out += ["--data", body.data]
    for option in ("seed", "cuts", "trials"):
        if getattr(body, option, None) is not None:
            out += [f"--{option}", str(getattr(body, option))]
    return out


def _run_of(job: str, jobs: Path) -> Path:
    """The run folder that a job wrote."""
    found = sorted((jobs / job / "runs").glob("*/metrics.json"))
    if not found:
        raise UnknownData(f"job {job} has no finished run; GET /jobs lists what there is")
    return found[-1].parent


def _checked(body: Any) -> bytes:
    """A config as TOML, once it is known to hold neither code nor paths and to be valid."""
    table = body.config
    try:
        _refuse_code(table)
        _refuse_paths({**table, "data": _without_assets(table.get("data"))})
        if "track" in table:
            raise ConfigError("where runs are recorded is for who runs the service to say (FOLIOCAST_TRACK)")
        data = _parsed(body).data
        if data.members is not None:
            raise ConfigError("data.members names a file and is not accepted over HTTP; use the command line")
        known_data(data.source)
        return tomli_w.dumps(table).encode()
    except (RecursionError, TypeError, UnicodeError) as error:
        raise ConfigError(
            f"the config cannot be written as TOML, which knows neither null nor lone surrogates: {str(error)[:100]}"
        ) from None


def _parsed(body: Any) -> Any:
    if isinstance(body, schemas.TrainJob):
        from foliocast.workflows.train import TrainConfig

        return checked(TrainConfig, body.config, "config")
    if isinstance(body, schemas.ScoreJob):
        from foliocast.workflows.rank_table import RankConfig

        return checked(RankConfig, body.config or {}, "config")
    return parse_config(body.config)


def known_data(name: str) -> str:
    """Hash of a data set that may be named over HTTP: a sample, or an entry of the catalog; never a file.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    from foliocast.data import SAMPLES
    from foliocast.data.catalog import Catalog
    from foliocast.data.load import is_path

    if name in SAMPLES:
        return ""
    if is_path(name):
        raise ConfigError(f"'{name}' is a path; over HTTP data are named by catalog name")
    catalog = Catalog()
    if name not in catalog.names():
        raise UnknownData(f"no data named '{name}'; GET /data lists what there is")
    return catalog.show(name).data_hash


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


def _without_assets(data: Any) -> Any:
    """Tickers may hold a slash (BRK/B); nothing else in a config does unless it is a path."""
    return {key: item for key, item in data.items() if key != "assets"} if isinstance(data, dict) else data


def _refuse_paths(item: Any) -> None:
    if isinstance(item, dict):
        for name, value in item.items():
            _refuse_paths(name)
            _refuse_paths(value)
    elif isinstance(item, list):
        for value in item:
            _refuse_paths(value)
    elif isinstance(item, str) and ("/" in item or "\\" in item or ".." in item or item.startswith(("~", "."))):
        raise ConfigError(f"'{item[:60]}' is a path; over HTTP data and models are named by their names")
