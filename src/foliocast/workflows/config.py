"""A run as a TOML file: read, checked to the last key, and built into objects.

A table with the key ``type`` describes a public class of the package; its other keys are the constructor's arguments,
tables inside it are built the same way. So a config can say all that Python can, and nothing that Python cannot.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import tomllib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import foliocast
from foliocast.core.errors import ConfigError

PACKAGED = Path(__file__).with_name("configs")
PEER = "skfolio."
BASELINES: dict[str, str] = {
    "equal_weight": "EqualWeight",
    "buy_and_hold": "BuyAndHold",
    "inverse_volatility": "InverseVolatility",
    "minimum_variance": "MinimumVariance",
    "mean_variance": "MeanVariance",
    "hrp": "HierarchicalRiskParity",
}


T = TypeVar("T", bound=BaseModel)


class Table(BaseModel):
    """A table of a config: no key that is not named, no value changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Table):
    """Where the history comes from."""

    source: str = "sample"
    assets: list[str] | None = None
    start: str | None = None
    end: str | None = None
    members: str | None = None
    allow_jumps: bool = False
    repair: bool = False
    gaps: Literal["refuse", "keep"] = "refuse"


class ScheduleConfig(Table):
    """Walk-forward windows, in bars."""

    train: int = 504
    test: int = 63
    purge: int = 0
    expanding: bool = False


class SearchConfig(Table):
    """How ``foliocast search`` looks for the best values of the ranges in a config; windows in bars."""

    trials: int = Field(default=20, ge=1)
    train: int | None = Field(default=None, ge=2)
    test: int | None = Field(default=None, ge=1)
    purge: int = Field(default=5, ge=0)
    metric: Literal["sharpe", "return", "sortino", "calmar"] = "sharpe"


class Config(Table):
    """Everything that defines a run."""

    name: str = "backtest"
    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    execution: Literal["next_open", "next_close", "same_close"] | None = None
    costs: dict[str, Any] = Field(default_factory=lambda: {"commission_bps": 5.0})
    limits: list[dict[str, Any]] = Field(default_factory=list)
    strategies: dict[str, dict[str, Any]] = Field(default_factory=dict)
    baselines: bool | list[str] = True
    regimes: bool = True
    allow_contaminated: bool = False
    track: str | None = None
    search: SearchConfig | None = None

    @property
    def baseline_names(self) -> list[str]:
        """The baselines that run beside the strategies."""
        if isinstance(self.baselines, bool):
            return list(BASELINES) if self.baselines else []
        return list(self.baselines)


def load_config(path: str | Path) -> Config:
    """Read and check a TOML file, or one of the packaged configs by its name ("demo", "lstm_basket").

    Raises
    ------
    ConfigError
        No such file, not TOML, or a key that does not exist; one sentence.
    """
    path = Path(path)
    return parse_config(read_toml(path), path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, or of a packaged config by its name."""
    packaged = PACKAGED / f"{path}.toml"
    if not path.suffix and path.name == str(path) and packaged.is_file() and not path.is_file():
        path = packaged
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in PACKAGED.glob("*.toml")))
        raise ConfigError(f"no config file at {path}; give a TOML file or the name of a packaged one ({names})")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from error


def checked(schema: type[T], raw: Mapping[str, Any], where: str) -> T:
    """A mapping checked against a schema; the first fault is told in one sentence."""
    try:
        return schema.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_sentence(error, schema)}") from None


def parse_config(raw: Mapping[str, Any], where: str = "config") -> Config:
    """Check a mapping against the schema of a run.

    Raises
    ------
    ConfigError
        A key that does not exist, a value of another kind, a baseline that there is not; one sentence.
    """
    config = checked(Config, raw, where)
    unknown = [name for name in config.baseline_names if name not in BASELINES]
    if unknown:
        raise ConfigError(f"{where}: no baseline called '{unknown[0]}'; there are {', '.join(BASELINES)}")
    return config


def _sentence(error: ValidationError, schema: type[BaseModel]) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_did_you_mean(fault['loc'], schema)}"
    return f"'{key}' = {fault.get('input')!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _did_you_mean(where: tuple[int | str, ...], schema: type[BaseModel]) -> str:
    table: Any = schema
    for part in where[:-1]:
        annotation = table.model_fields[part].annotation if part in getattr(table, "model_fields", {}) else None
        table = annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None
    keys = list(getattr(table, "model_fields", {}))
    near = difflib.get_close_matches(str(where[-1]), keys, n=1)
    return f"; did you mean '{near[0]}'?" if near else (f"; the keys are {', '.join(keys)}" if keys else "")


def build(table: Mapping[str, Any], where: str) -> Any:
    """Make the object that a table with a ``type`` describes; nested tables and lists are made first.

    Raises
    ------
    ConfigError
        No such class, or an argument that it does not take.
    """
    if "type" not in table:
        raise ConfigError(
            f"[{where}] needs a key 'type' naming a public class of foliocast, e.g. type = \"EqualWeight\""
        )
    name = str(table["type"])
    if name == "function":
        return _user_function(table, where)
    made = _peer_class(name, where) if name.startswith(PEER) else _public_class(name, where)
    takes = {p.name: p for p in inspect.signature(made).parameters.values() if p.kind is not p.VAR_KEYWORD}
    arguments = {key: _value(item, f"{where}.{key}") for key, item in table.items() if key != "type"}
    for key, value in arguments.items():
        if key not in takes:
            near = difflib.get_close_matches(key, takes, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(takes) or 'nothing'}"
            raise ConfigError(f"[{where}] {name} has no argument '{key}'; {hint}")
        if isinstance(takes[key].default, Enum) and isinstance(value, str):
            arguments[key] = _choice(type(takes[key].default), value, f"{where}.{key}")
    try:
        return made(**arguments)
    except TypeError as error:
        raise ConfigError(f"[{where}] {name}: {error}") from error


def is_range(item: Any) -> bool:
    """Whether a value of a config stands for many: ``{low = 1, high = 9}`` or ``{choices = [1, 2]}``."""
    return isinstance(item, Mapping) and "type" not in item and ("choices" in item or {"low", "high"} <= set(item))


def _value(item: Any, where: str) -> Any:
    if is_range(item):
        raise ConfigError(f"[{where}] is a range, not a value; run the config with: foliocast search CONFIG")
    if isinstance(item, Mapping):
        return build(item, where) if "type" in item else {key: _value(v, f"{where}.{key}") for key, v in item.items()}
    if isinstance(item, list):
        return [_value(v, where) for v in item]
    return item


def _peer_class(name: str, where: str) -> Callable[..., Any]:
    """``skfolio.RiskBudgeting``: an optimiser of skfolio, for `SkfolioPolicy`."""
    from skfolio import optimization

    names = [key for key in optimization.__all__ if not key.startswith("Base") and key != "ObjectiveFunction"]
    short = name.removeprefix(PEER)
    if short not in names:
        near = difflib.get_close_matches(short, names, n=1)
        hint = f"; did you mean '{PEER}{near[0]}'?" if near else f"; there are {', '.join(names)}"
        raise ConfigError(f"[{where}] skfolio has no optimiser called '{short}'{hint}")
    return getattr(optimization, short)


def _choice(kind: type[Enum], text: str, where: str) -> Enum:
    """A member of an enumeration by its name, in any case: ``risk_measure = "cvar"``."""
    wanted = text.upper().replace(" ", "_").replace("-", "_")
    if wanted not in kind.__members__:
        raise ConfigError(f"[{where}] '{text}' is not one of {', '.join(m.lower() for m in kind.__members__)}")
    return kind[wanted]


def _public_class(name: str, where: str) -> Callable[..., Any]:
    found = getattr(foliocast, name, None) if name in foliocast.__all__ else None
    if not inspect.isclass(found):
        near = difflib.get_close_matches(name, foliocast.__all__, n=1)
        raise ConfigError(f"[{where}] no class called '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    return found


def _user_function(table: Mapping[str, Any], where: str) -> Any:
    """``type = "function", path = "my.py", name = "weights"``: the user's own code, from panel to weights."""
    unknown = set(table) - {"type", "path", "name"}
    path = Path(str(table.get("path", "")))
    if unknown or not path.is_file():
        what = f"unknown key '{sorted(unknown)[0]}'" if unknown else f"no Python file at '{path}'"
        raise ConfigError(f'[{where}] {what}; a function needs path = "file.py" and name = "function"')
    spec = importlib.util.spec_from_file_location(f"_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"[{where}] '{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, str(table.get("name", "weights")), None)
    if not callable(function):
        raise ConfigError(f"[{where}] {path.name} defines no function '{table.get('name', 'weights')}'")
    from foliocast.portfolio.function import FunctionStrategy

    return FunctionStrategy(function)


def with_code(table: Mapping[str, Any]) -> dict[str, Any]:
    """A strategy's table as its identity: a user's function is what its file says, not what it is called."""
    if table.get("type") != "function":
        return dict(table)
    return {**table, "sha256": hashlib.sha256(Path(str(table["path"])).read_bytes()).hexdigest()}
