"""Every method of explanation side by side: one table of importance, one of lags, one row a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError
from foliocast.core.inputs import ModelInputs
from foliocast.explain.gradients import integrated_gradients
from foliocast.explain.permutation import permutation_importance
from foliocast.explain.shapley import shap_values

METHODS = ("gradients", "shap", "permutation")
BACKGROUND = 100


@dataclass(frozen=True)
class Explanation:
    """What was found of one predictor.

    Attributes
    ----------
    importance : DataFrame
        Columns method, feature, importance, share (of the sum of positive importances), sd. Importance is the mean
        absolute attribution of a prediction, in standard deviations of the target; for permutation the loss of
        correlation with outcomes.
    lags : DataFrame
        Columns method, feature, lag (0 the present bar, -1 the one before), importance.
    predictions : DataFrame
        Columns time, asset, method, predicted (return), base (return where nothing is known) and one a feature:
        what it added to the predicted return. base plus features is the prediction, up to ``rest``.
    """

    importance: pd.DataFrame
    lags: pd.DataFrame
    predictions: pd.DataFrame


def methods_for(inputs: ModelInputs) -> tuple[str, ...]:
    """The methods that apply: gradients need a network."""
    return METHODS if inputs.kind == "network" else METHODS[1:]


def explain_predictions(
    inputs: ModelInputs,
    background: np.ndarray | ModelInputs,
    methods: Sequence[str] | None = None,
    n_blocks: int = 4,
    repeats: int = 10,
    random_state: int = 0,
) -> Explanation:
    """Explain predictions by every method that applies.

    Parameters
    ----------
    inputs : ModelInputs
        Of rows that the model was not fitted on.
    background : ModelInputs, or ndarray of shape (sample, ..., time, feature)
        Inputs of training rows: what SHAP compares with, at most `BACKGROUND` of them, evenly spaced. Given as
        ModelInputs (none within a window of those explained) they are also where permutation takes features from;
        else blocks of the explained rows are exchanged.
    methods : sequence of {"gradients", "shap", "permutation"}, optional

    Raises
    ------
    ConfigError
        A method that does not exist, or does not apply to this kind of model.
    """
    chosen = methods_for(inputs) if methods is None else tuple(methods)
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise ConfigError(f"no method called '{unknown[0]}'; choose from {', '.join(METHODS)}")
    pool = background if isinstance(background, ModelInputs) else None
    rows = background.values if isinstance(background, ModelInputs) else background
    rows = rows[:: max(1, -(-len(rows) // BACKGROUND))]
    importance, lags, predictions = [], [], []
    for method in chosen:
        if method == "permutation":
            table = permutation_importance(inputs, pool, n_blocks, repeats, random_state)
            importance.append(_ranked(method, table["importance"].to_numpy(), table["sd"].to_numpy(), inputs.names))
            continue
        if method == "gradients":
            found, base = integrated_gradients(inputs), _zero(inputs)
        else:
            found, base = shap_values(inputs, rows, random_state=random_state), None
        each = _by_prediction(inputs, found)
        size = np.abs(each).mean(axis=0)
        importance.append(_ranked(method, size, np.abs(each).std(axis=0), inputs.names))
        lags.append(_by_lag(method, found, inputs))
        predictions.append(_rows(method, inputs, each, base))
    return Explanation(_stacked(importance), _stacked(lags), _stacked(predictions))


def joined(found: Sequence[Explanation]) -> Explanation:
    """Several predictors of one forecaster (folds, or a part an asset) as one: importances are averaged."""
    importance = _stacked([e.importance for e in found])
    mean = importance.groupby(["method", "feature"], sort=False)[["importance", "sd"]].mean()
    parts = []
    for method in dict.fromkeys(importance["method"]):
        rows = mean.loc[method]
        parts.append(_ranked(method, rows["importance"].to_numpy(), rows["sd"].to_numpy(), tuple(map(str, rows.index))))
    lags = _stacked([e.lags for e in found])
    if len(lags):
        lags = lags.groupby(["method", "feature", "lag"], sort=False)["importance"].mean().reset_index()
    return Explanation(_stacked(parts), lags, _stacked([e.predictions for e in found]))


def _ranked(method: str, size: np.ndarray, spread: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    total = np.maximum(size, 0.0).sum()
    share = np.maximum(size, 0.0) / total if total > 0 else np.zeros(len(size))
    columns = {"method": method, "feature": names, "importance": size, "share": share, "sd": spread}
    return pd.DataFrame(columns).sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _by_prediction(inputs: ModelInputs, found: np.ndarray) -> np.ndarray:
    """Attributions summed over lags, (prediction, feature)."""
    return found.sum(axis=-2)[inputs.present]


def _by_lag(method: str, found: np.ndarray, inputs: ModelInputs) -> pd.DataFrame:
    size = np.abs(found[inputs.present]).mean(axis=0)
    lags = np.arange(1 - inputs.window, 1)
    index = pd.MultiIndex.from_product([lags, inputs.names], names=["lag", "feature"])
    table = pd.Series(size.ravel(), index=index, name="importance").reset_index()
    return table.assign(method=method)[["method", "feature", "lag", "importance"]]


def _zero(inputs: ModelInputs) -> np.ndarray | None:
    """Standardised prediction where every feature is at its training mean."""
    if inputs.joint:
        return None
    return np.broadcast_to(inputs.predict(np.zeros_like(inputs.values[:1])), len(inputs.target))


def _rows(method: str, inputs: ModelInputs, each: np.ndarray, base: np.ndarray | None) -> pd.DataFrame:
    predicted = inputs.predictions()
    known = predicted - each.sum(axis=1) if base is None else base
    columns = {
        "time": inputs.index.get_level_values(0),
        "asset": inputs.index.get_level_values(1),
        "method": method,
        "predicted": inputs.offset + inputs.unit * predicted,
        "base": inputs.offset + inputs.unit * known,
    }
    parts = {name: inputs.unit * each[:, k] for k, name in enumerate(inputs.names)}
    rest = inputs.unit * (predicted - known - each.sum(axis=1))
    return pd.DataFrame({**columns, **parts, "rest": rest})


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
