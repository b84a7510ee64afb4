"""What a client may send and what it gets back; OpenAPI is generated from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field, model_validator

Ticker = Annotated[str, Field(pattern=r"^[A-Za-z0-9.^_][A-Za-z0-9.^=_-]{0,19}$", examples=["NVDA"])]
Fraction = Annotated[float, Field(gt=-1.0, lt=100.0)]
Weight = Annotated[float, Field(ge=-100.0, le=100.0, allow_inf_nan=False)]
MAX_NUMBERS = 50_000_000  # scenarios x horizon x assets of one job
DataName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$",
        description="A catalog name, an upload's name, or sample[:tech|sp500|index|factors]; never a path.",
    ),
]
ModelName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$", description="A forecaster of /model/info, or one you trained."),
]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)  # true is not 1


class BacktestJob(_Body):
    """Walk-forward of strategies; without a config the packaged demo runs."""

    verb: Literal["backtest"]
    config: dict[str, Any] | None = Field(default=None, description="The content of a config file, as JSON.")
    data: DataName | None = None
    seed: Seed | None = None


class AuditJob(_Body):
    """Look-ahead audit of a config."""

    verb: Literal["audit"]
    config: dict[str, Any] | None = None
    data: DataName | None = None
    cuts: int = Field(default=4, ge=1, le=20)


class SimulateJob(_Body):
    """Joint scenarios, free or conditional."""

    verb: Literal["simulate"]
    data: DataName = "sample"
    model: str = Field(default="fhs", pattern=r"^[a-z0-9_-]{1,40}$")
    assets: list[Ticker] = Field(min_length=1, max_length=200, examples=[["NVDA", "GOOG"]])
    horizon: int = Field(default=20, ge=1, le=250)
    n: int = Field(default=1000, ge=1, le=20000)
    given: dict[Ticker, Fraction] = Field(default_factory=dict, examples=[{"NVDA": -0.2}])
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits(self) -> SimulateJob:
        if self.n * self.horizon * len(self.assets) > MAX_NUMBERS:
            raise ValueError(f"n x horizon x assets is more than {MAX_NUMBERS}: ask for fewer scenarios")
        return self


class StressJob(_Body):
    """What a portfolio loses, and why."""

    verb: Literal["stress"]
    data: DataName = "sample"
    weights: dict[Ticker, Weight] = Field(min_length=1, max_length=500, examples=[{"NVDA": 0.5, "GOOG": 0.5}])
    given: dict[Ticker, Fraction] = Field(default_factory=dict)
    horizon: int = Field(default=10, ge=1, le=250)
    seed: Seed = 0


class AllocateJob(_Body):
    """Weights now."""

    verb: Literal["allocate"]
    data: DataName = "sample"
    objective: Literal["min_risk", "max_utility", "max_return"] = "min_risk"
    risk: str = Field(default="cvar", pattern=r"^[a-z_]{1,30}$")
    assets: list[Ticker] = Field(default_factory=list, max_length=500)
    seed: Seed = 0


class GenerateJob(_Body):
    """Fund portfolios from a prompt."""

    verb: Literal["generate"]
    prompt: str = Field(min_length=1, max_length=500, examples=["Buffett, Value, Large-Cap, Sep 2023"])
    n: int = Field(default=8, ge=1, le=64)
    seed: Seed = 0


class ForecastJob(_Body):
    """Path and intervals of one ticker."""

    verb: Literal["forecast"]
    ticker: Ticker
    data: DataName = "sample"
    days: int = Field(default=7, ge=1, le=30)
    seed: Seed = 0


class TrainJob(_Body):
    """Fit a model and keep it under its name; /predict and the verbs then take it by that name."""

    verb: Literal["train"]
    config: dict[str, Any] = Field(description="name, seed, data and model: the content of a training config.")
    seed: Seed | None = None


class ScoreJob(_Body):
    """Rank correlations of forecasters, walk-forward."""

    verb: Literal["score"]
    config: dict[str, Any] | None = Field(default=None, description="data, schedule, horizons and models.")
    data: DataName | None = None
    seed: Seed | None = None


class SearchJob(_Body):
    """Search the ranges of a config inside its first training window, then walk the winner forward."""

    verb: Literal["search"]
    config: dict[str, Any]
    trials: int = Field(default=20, ge=1, le=1000)
    seed: Seed | None = None


class ExplainJob(_Body):
    """What drove the run of a backtest job that is done; the charts go into its report."""

    verb: Literal["explain"]
    job: str = Field(pattern=r"^(backtest|search)-[0-9a-f]{12}$", examples=["backtest-0123456789ab"])
    folds: int = Field(default=2, ge=0, le=100)


AnyJob = Annotated[
    BacktestJob
    | AuditJob
    | SimulateJob
    | StressJob
    | AllocateJob
    | GenerateJob
    | ForecastJob
    | TrainJob
    | ScoreJob
    | SearchJob
    | ExplainJob,
    Field(discriminator="verb"),
]


class JobState(BaseModel):
    """Where a job stands."""

    id: str
    verb: str
    status: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    created: str
    ended: str | None = None
    exit_code: int | None = None
    progress: dict[str, Any] = Field(default_factory=dict)


class Event(BaseModel):
    """One server-sent event: its name is the job's status, its data the job's state as JSON."""

    event: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    data: str


class Health(BaseModel):
    """Whether the service can work, and with what."""

    status: Literal["ok"]
    version: str
    extras: dict[str, bool]


class Models(BaseModel):
    """What can forecast."""

    forecasters: list[str]
    cards: list[dict[str, Any]]


class DataSet(BaseModel):
    """One data set that can be named."""

    name: str
    about: str
    start: str | None = None
    end: str | None = None
    assets: list[str] = Field(default_factory=list)


class Prediction(BaseModel):
    """A forecast, day by day."""

    ticker: str
    as_of: str
    model: str
    knowledge_until: str | None
    last_price: float
    days: list[dict[str, Any]]
    notice: str = ""


class Problem(BaseModel):
    """What was wrong, in one sentence."""

    error: str


EXAMPLES: dict[str, Any] = {
    "backtest": {
        "verb": "backtest",
        "config": {
            "data": {"source": "sample", "assets": ["NVDA", "GOOG", "AAPL"]},
            "schedule": {"train": 252, "test": 126},
            "strategies": {"linear": {"type": "SignalStrategy", "forecaster": {"type": "LinearForecaster"}}},
            "baselines": ["equal_weight"],
        },
    },
    "audit": {"verb": "audit", "cuts": 2},
    "simulate": {"verb": "simulate", "assets": ["NVDA", "GOOG"], "horizon": 10, "n": 500, "given": {"NVDA": -0.2}},
    "stress": {"verb": "stress", "weights": {"NVDA": 0.5, "GOOG": 0.5}, "given": {"NVDA": -0.2}},
    "allocate": {"verb": "allocate", "objective": "min_risk", "risk": "cvar"},
    "generate": {"verb": "generate", "prompt": "Buffett, Value, Large-Cap, Sep 2023", "n": 2},
    "forecast": {"verb": "forecast", "ticker": "NVDA", "days": 7},
    "train": {"verb": "train", "config": {"name": "mine", "model": {"type": "AttentionLSTM", "epochs": 5}}},
    "score": {"verb": "score", "data": "sample:sp500"},
    "search": {
        "verb": "search",
        "trials": 5,
        "config": {
            "strategies": {
                "linear": {
                    "type": "SignalStrategy",
                    "forecaster": {"type": "LinearForecaster", "alpha": {"low": 0.1, "high": 100.0, "log": True}},
                }
            }
        },
    },
    "explain": {"verb": "explain", "job": "backtest-0123456789ab"},
}
JobBody = Annotated[AnyJob, Body(openapi_examples={verb: {"value": value} for verb, value in EXAMPLES.items()})]
