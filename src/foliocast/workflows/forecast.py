"""Forecast one ticker for the next trading days, with bands, by a model that was fitted on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone

import foliocast
from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.runtime.files import whole_file
from foliocast.workflows.saved import find_saved, load_saved, models_folder, refuse_hindsight

if TYPE_CHECKING:
    from foliocast.models.conformal import ConformalForecaster

MODELS = {
    "attention_lstm": "AttentionLSTM",
    "lstm": "LSTMForecaster",
    "transformer": "TransformerForecaster",
    "cross_asset": "CrossAssetTransformer",
    "trees": "TreesForecaster",
    "linear": "LinearForecaster",
    "naive": "NaiveForecaster",
}
QUICK = ("linear", "naive", "trees")  # no training loop: fitted in a moment
LEVELS = (0.8, 0.95)
TRAIN_BARS = 1260  # five years of daily bars: recent enough to matter, long enough to learn from
CALIBRATION_BARS = 252  # the last of them, in which past forecasts are judged
EVERY = 2  # bars between past forecasts
COMPANIONS = 19  # other assets whose volatility and past forecasts help with this one's


def forecast(panel: Panel, ticker: str, days: int = 7, model: str = "attention_lstm", seed: int = 0) -> dict[str, Any]:
    """Path and bands of one ticker over the next trading days.

    Parameters
    ----------
    panel : Panel
        History; the model is fitted on its last years, all assets together.
    ticker : str
        Must be in the panel: a model fitted on other assets is never served for it.
    days : int
        1 to 30 trading days of the asset's exchange.
    model : str
        One of `MODELS`, or the name or folder of a trained one (`foliocast.workflows.train`).
    seed : int

    Returns
    -------
    dict
        ``ticker``, ``as_of``, ``model``, ``calibration`` (on how many past forecasts of how many assets the bands were
        calibrated), ``knowledge_until``, ``last_price``, ``notice`` and ``days``: for each the ``date``, expected
        ``price`` and ``return`` since ``as_of``, and bands of prices ``low_80`` ... ``high_95``.

    Raises
    ------
    DataError, ConfigError
        No data for the ticker; days outside 1..30; no such model.
    """
    if not 1 <= days <= 30:
        raise ConfigError(f"days = {days}, expected 1 to 30 trading days")
    alone = panel.select([ticker])
    last = float(alone.array("close")[-1, 0])
    if not np.isfinite(last):
        raise HistoryError(
            f"{ticker} has no quote at {panel.times[-1]:%Y-%m-%d}, the end of '{panel.name}': it has left"
        )
    fitted = fitted_model(panel, model, seed)
    company = _company(fitted, panel, ticker)
    view = company.asof(panel.times[-1])
    believed = fitted.forecast(view, days)
    bands, judged = _bands(fitted, company, (model, days, seed))
    believed = believed if bands is None else bands.widened(believed)
    table = _table(believed, believed.assets.index(ticker), last, future_days(panel, days))
    return {
        "ticker": ticker,
        "as_of": str(view.as_of.date()),
        "model": describe(fitted, model),
        "calibration": {"past_forecasts": judged, "assets": len(company.assets) if judged else 0},
        "knowledge_until": str(pd.Timestamp(fitted.knowledge_until_).date()),
        "last_price": last,
        "notice": panel.notice,
        "days": table,
    }


def _company(fitted: Any, panel: Panel, ticker: str) -> Panel:
    """The ticker and those that are forecast with it: all where the model looks across assets, else a few."""
    known = [a for a in panel.assets if a in fitted.trained_assets_]
    if ticker not in known:
        return panel.select([ticker])  # a stranger: the model refuses it, or serves it alone
    tail = panel.rows(max(0, len(panel) - TRAIN_BARS), len(panel)).select(known)
    able = np.isfinite(tail.array("close")).all(axis=0) & np.isfinite(
        fitted.predict(tail, tail.times[-1:]).to_numpy()[0]
    )
    across = getattr(fitted, "joint", False) or getattr(fitted, "cross_section", False)
    others = [a for a, ok in zip(known, able) if ok and a != ticker]
    wanted = {ticker, *(others if across else others[:COMPANIONS])}
    return panel.select([a for a in known if a in wanted])


def _bands(fitted: Any, company: Panel, key: tuple[str, int, int]) -> tuple[ConformalForecaster | None, int]:
    """Bands calibrated on past forecasts and their number; None and 0 where the history is too short for it.

    What is calibrated is the law of the paths. A point forecaster's is the volatility filter around a mean: the mean of
    the past stands in for the forecast one, which spares a second training. A network with its own distribution has
    a twin trained on the earlier rows.
    """
    from foliocast.models.conformal import ConformalForecaster
    from foliocast.models.naive import NaiveForecaster

    recent = company.rows(max(0, len(company) - TRAIN_BARS), len(company))
    if len(recent) < 2 * CALIBRATION_BARS:
        return None, 0
    model, days, seed = key
    point = getattr(fitted, "head", "point") == "point"
    twin = NaiveForecaster("mean", volatility=fitted.volatility, random_state=seed) if point else clone(fitted)
    bands = ConformalForecaster(twin, LEVELS, days, CALIBRATION_BARS, EVERY)
    kind = twin.volatility if point else model
    file = models_folder() / f"bands-{kind}-{recent.data_hash[:24]}-{days}-{seed}.npy"
    if file.is_file():
        pits = np.load(file, allow_pickle=False)
        return bands.calibrate(pits, recent.assets), len(pits)
    try:
        pits = bands.look_back(recent)
    except HistoryError:
        return None, 0
    with whole_file(file) as aside, aside.open("wb") as out:
        np.save(out, pits)
    return bands, len(pits)


def _table(believed: Forecast, column: int, last: float, dates: pd.DatetimeIndex) -> list[dict[str, Any]]:
    path = np.cumprod(1.0 + believed.mean[:, column]) - 1.0
    rows: list[dict[str, Any]] = [
        {"date": f"{date:%Y-%m-%d}", "day": date.day_name(), "price": last * (1 + r), "return": float(r)}
        for date, r in zip(dates, path)
    ]
    for level in LEVELS if believed.samples is not None else ():
        low, high = believed.quantile([(1 - level) / 2, (1 + level) / 2], cumulative=True)[:, :, column]
        for row, below, above in zip(rows, low, high):
            row[f"low_{level * 100:g}"], row[f"high_{level * 100:g}"] = last * (1 + below), last * (1 + above)
    return rows


def future_days(panel: Panel, days: int) -> pd.DatetimeIndex:
    """The next trading days after the panel's end: of the New York exchange, or of every day for 24/7 markets."""
    from foliocast.data.sources.exchange import trading_days

    always = (panel.times.day_of_week >= 5).mean() > 0.2
    return trading_days("24/7" if always else "XNYS", panel.times[-1], days)


def fitted_model(panel: Panel, model: str = "attention_lstm", seed: int = 0) -> Any:
    """The model fitted on the panel's last years; kept on disk, so that the second call is quick.

    The key is the data set's content: other data, other seed or other assets mean another fit.
    """
    if model not in MODELS:
        if find_saved(model) is None:
            raise ConfigError(f"no forecaster '{model}'; there are {', '.join(MODELS)}, and those you train and name")
        kept = load_saved(model, "forecast")
        refuse_hindsight(kept, panel.times[-1])
        return kept
    made = getattr(foliocast, MODELS[model])()
    if "random_state" in made.get_params():
        made.set_params(random_state=seed)
    train = panel.rows(max(0, len(panel) - TRAIN_BARS), len(panel))
    if not hasattr(made, "save"):
        return made.fit(train)
    folder = _kept(train, model, seed)
    if (folder / "card.json").is_file():
        return _load(folder)
    fitted = made.fit(train)
    fitted.save(folder)
    return fitted


def is_ready(panel: Panel, model: str, seed: int = 0) -> bool:
    """Whether a forecast by this model is at hand: trained before, or of a kind that fits in a moment."""
    if model in QUICK or find_saved(model) is not None:
        return True
    return (_kept(panel.rows(max(0, len(panel) - TRAIN_BARS), len(panel)), model, seed) / "card.json").is_file()


def _kept(train: Panel, model: str, seed: int) -> Path:
    version = foliocast.__version__  # other defaults are another model
    return models_folder() / f"{model}-{version}-{train.data_hash[:24]}-{seed}"


def _load(folder: Path) -> Any:
    from foliocast.models.checkpoint import load_model

    return load_model(folder)


def describe(fitted: Any, name: str) -> str:
    """One line of a model's card."""
    assets = getattr(fitted, "trained_assets_", ())
    return f"{name}, fitted on {len(assets)} assets, knows data up to {pd.Timestamp(fitted.knowledge_until_):%Y-%m-%d}"


def model_cards() -> dict[str, Any]:
    """Cards of every model kept on disk and of those inside the package; a broken card is named, not fatal."""
    import json

    packaged = Path(foliocast.__file__).parent / "models"
    cards: dict[str, Any] = {"forecasters": list(MODELS), "cards": []}
    for file in [*sorted(packaged.rglob("card.json")), *sorted(models_folder().glob("*/card.json"))]:
        try:
            cards["cards"].append({"name": file.parent.name, **json.loads(file.read_text())})
        except (OSError, ValueError) as error:
            cards["cards"].append({"name": file.parent.name, "error": f"unreadable card: {error}"})
    return cards


@lru_cache(maxsize=512)
def served_forecast(ticker: str, days: int, source: str) -> dict[str, Any]:
    """`forecast` for a service: one fit and one answer for all who ask the same."""
    return forecast(_panel(source), ticker, days)


@lru_cache(maxsize=4)
def _panel(source: str) -> Panel:
    load: Callable[[str], Panel] = foliocast.load_panel
    return load(source)
