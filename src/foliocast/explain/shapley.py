"""Shapley values of predictions: exact for trees and linear models, expected gradients for networks.

Lundberg and Lee (2017). The values of a prediction sum to its difference from the mean prediction over a background.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from foliocast.core.errors import ConfigError, MissingExtraError
from foliocast.core.inputs import ModelInputs

MOST_FEATURES = 12  # coalitions of features double with each


def shap_values(inputs: ModelInputs, background: np.ndarray, n_samples: int = 50, random_state: int = 0) -> np.ndarray:
    """Attributions of the standardised predictions, shaped like ``inputs.values``.

    Parameters
    ----------
    inputs : ModelInputs
        Trees: TreeExplainer (exact, path-dependent background: the ensemble's own training rows). Linear: coefficient
        times deviation from the background (exact). Networks: GradientExplainer over the background. What is none of
        these, or joint: exact Shapley values of whole features (all lags at once), spread evenly over the lags.
    background : ndarray, shape (sample, ..., time, feature)
        Inputs to compare with: rows of the training window.
    n_samples : int
        Draws a prediction of the network's explainer.
    random_state : int

    Raises
    ------
    MissingExtraError
        shap is not installed.
    """
    if inputs.kind == "linear":
        centred = inputs.values.astype(float) - background.mean(axis=0)
        return centred * np.asarray(inputs.native, dtype=float).reshape(inputs.values.shape[1:])
    if inputs.kind == "function" or inputs.joint:
        return _by_feature(inputs, background)
    try:
        import shap
    except ImportError as error:
        raise MissingExtraError("shap", "explain") from error
    if inputs.kind == "trees":
        explainer: Any = shap.TreeExplainer(inputs.native)
        found = explainer.shap_values(inputs.values.reshape(len(inputs), -1))
        return np.asarray(found, dtype=float).reshape(inputs.values.shape)
    import torch

    explainer = shap.GradientExplainer(inputs.native, torch.from_numpy(np.ascontiguousarray(background)))
    values = torch.from_numpy(np.ascontiguousarray(inputs.values))
    found = explainer.shap_values(values, nsamples=n_samples, rseed=random_state)
    return np.asarray(found, dtype=float).reshape(inputs.values.shape)


def _by_feature(inputs: ModelInputs, background: np.ndarray) -> np.ndarray:
    """Exact Shapley values over coalitions of features; the absent are at their background mean."""
    n = len(inputs.names)
    if n > MOST_FEATURES:
        raise ConfigError(
            f"{n} features make {2**n} coalitions; exact Shapley values are computed up to {MOST_FEATURES}, use "
            "permutation importance or integrated gradients"
        )
    rest = np.nanmean(background, axis=tuple(range(background.ndim - 2))).astype(np.float32)
    value: dict[frozenset[int], np.ndarray] = {}
    for size in range(n + 1):
        for chosen in combinations(range(n), size):
            mixed = np.where(np.isnan(inputs.values), np.nan, rest)
            mixed[..., list(chosen)] = inputs.values[..., list(chosen)]
            value[frozenset(chosen)] = inputs.predict(mixed.astype(np.float32))
    out = np.zeros(inputs.values.shape)
    for feature in range(n):
        others = [k for k in range(n) if k != feature]
        total = np.zeros(inputs.present.shape)
        for size in range(n):
            for chosen in combinations(others, size):
                gain = value[frozenset({*chosen, feature})] - value[frozenset(chosen)]
                total += gain / (n * comb(n - 1, size))
        out[..., feature] = np.where(inputs.present, total, 0.0)[..., None] / inputs.window
    return out
