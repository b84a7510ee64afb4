"""Integrated gradients: what each input of a network added to a prediction, along the straight line from a baseline.

Sundararajan, Taly and Yan (2017), "Axiomatic attribution for deep networks". The attributions of a prediction sum to
its difference from the prediction of the baseline.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foliocast.core.errors import ConfigError, MissingExtraError
from foliocast.core.inputs import ModelInputs

BATCH = 2048  # network evaluations at a time


def integrated_gradients(inputs: ModelInputs, steps: int = 64) -> np.ndarray:
    """Attributions of a network's standardised predictions, shaped like ``inputs.values``.

    Parameters
    ----------
    inputs : ModelInputs
        Of kind "network". Of a joint model the sum over the assets of a date is attributed: an entry is what the
        feature of this asset did to the predictions of all.
    steps : int
        Points of the Gauss-Legendre rule along the line; the baseline is zero, the training mean of every feature.

    Raises
    ------
    MissingExtraError
        captum is not installed.
    ConfigError
        The model has no gradients (trees, linear): use `shap_values`.
    """
    if inputs.kind != "network":
        raise ConfigError(f"integrated gradients need a network, this is a model of kind '{inputs.kind}'; use SHAP")
    try:
        import torch
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    there = np.isfinite(inputs.values)
    method: Any = IntegratedGradients(inputs.native)
    out = np.zeros(inputs.values.shape)
    size = max(1, BATCH // steps)
    for low in range(0, len(inputs), size):
        values = torch.from_numpy(np.ascontiguousarray(inputs.values[low : low + size]))
        found = method.attribute(values, baselines=torch.zeros_like(values), target=0, n_steps=steps)
        out[low : low + size] = found.detach().double().numpy()
    return np.where(there, out, 0.0)
