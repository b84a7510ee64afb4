"""The end-to-end allocator, trained on a simulated market, reaches the optimum that theory knows in closed form.

The shocks of the training markets have exactly the moments of their law, and policies are judged by the true law on a
fresh market: what is measured is what was learnt, not luck.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import foliocast as fc

SIGMA = 0.01


def exact(rng: np.random.Generator, n_bars: int, n_assets: int) -> np.ndarray:
    """Normal shocks, uncorrelated, with mean zero and variance one in the sample."""
    draws = rng.normal(size=(n_bars, n_assets))
    draws -= draws.mean(axis=0)
    left, _, right = np.linalg.svd(draws, full_matrices=False)
    return left @ right * np.sqrt(n_bars)


def as_panel(returns: np.ndarray, signal: np.ndarray | None = None) -> fc.Panel:
    """Returns as closes; a signal as the logarithm of high over low, which is a feature."""
    close = 100 * np.cumprod(1 + returns, axis=0)
    width = np.full_like(close, 1.05) if signal is None else np.exp(0.05 + 0.005 * signal)
    fields = {"close": close, "high": close * np.sqrt(width), "low": close / np.sqrt(width)}
    return fc.Panel(fields, pd.date_range("1950-01-01", periods=len(close)), [f"A{i}" for i in range(close.shape[1])])


def weights_on(model: fc.EndToEndAllocator, panel: fc.Panel) -> np.ndarray:
    return np.nan_to_num(model.decide_many(panel, panel.times).to_numpy())


COMMON = {
    "head": "long_short",
    "gross": 1e6,
    "execution": "same_close",
    "window": 1,
    "hidden": 8,
    "attention_heads": 0,
    "weight_decay": 0.0,
    "patience": None,
    "batch_size": 1000,
}


def test_merton() -> None:
    """Power utility, independent assets: w = mu / (gamma sigma^2); volatility differs and is all one sees."""
    gamma, sharpe = 10.0, 0.1
    sigma = np.array([0.005, 0.008, 0.0125, 0.02])
    rng = np.random.default_rng(0)
    train = as_panel(sigma * (sharpe + exact(rng, 4000, 4)))
    model = fc.EndToEndAllocator(
        **COMMON,
        objective="utility",
        risk_aversion=gamma,
        cost_bps=0,
        uses_holdings=False,
        features=("volatility_60",),
        stride=63,
        lr=0.05,
        epochs=120,
    ).fit(train)
    weights = weights_on(model, as_panel(sigma * (sharpe + rng.normal(size=(1000, 4)))))[100:]
    optimum = sharpe / (gamma * sigma)

    def utility(w: np.ndarray) -> float:
        return float((w * sharpe * sigma - 0.5 * gamma * w**2 * sigma**2).sum(axis=-1).mean())

    assert utility(weights) > 0.98 * utility(optimum)
    assert utility(np.full(4, optimum.mean())) < 0.9 * utility(optimum)  # a constant would not do


def test_garleanu_and_pedersen() -> None:
    """Mean-variance with quadratic costs and a persistent signal (2013, propositions 2 and 4): trade partially towards
    an aim in front of the target."""
    gamma, strength, persistence, cost = 100.0, 0.2, 0.95, 1000.0
    rng = np.random.default_rng(0)

    def signals(n_bars: int) -> np.ndarray:
        shocks = rng.normal(size=(n_bars, 6)) * np.sqrt(1 - persistence**2)
        out = np.empty_like(shocks)
        out[0] = rng.normal(size=6)
        for t in range(1, n_bars):
            out[t] = persistence * out[t - 1] + shocks[t]
        return out

    def market(signal: np.ndarray, shocks: np.ndarray) -> fc.Panel:
        lagged = np.vstack([np.zeros((1, 6)), signal[:-1]])
        return as_panel(SIGMA * (strength * lagged + shocks), signal)

    known = signals(4000)
    model = fc.EndToEndAllocator(
        **COMMON,
        objective="mean_variance",
        risk_aversion=gamma,
        trading="partial",
        cost_bps=0,
        quadratic_cost=cost * SIGMA**2,
        features=("log_range",),
        stride=63,
        lr=0.05,
        epochs=30,
    ).fit(market(known, exact(rng, 4000, 6)))
    fresh = signals(1500)
    learnt = weights_on(model, market(fresh, rng.normal(size=fresh.shape)))
    a = (np.sqrt(gamma**2 + 4 * gamma * cost) - gamma) / 2
    aim = strength / (gamma * SIGMA) / (1 + (1 - persistence) * a / gamma) * fresh
    optimum = np.zeros_like(aim)
    for t in range(1, len(aim)):
        optimum[t] = optimum[t - 1] + a / cost * (aim[t] - optimum[t - 1])

    def utility(w: np.ndarray) -> float:
        trade = np.diff(w, axis=0)
        earned = SIGMA * strength * fresh * w - 0.5 * gamma * SIGMA**2 * w**2
        return float((earned[1:] - 0.5 * cost * SIGMA**2 * trade**2)[100:].sum(axis=1).mean())

    myopic = strength / (gamma * SIGMA) * fresh
    assert utility(learnt) > 0.98 * utility(optimum)
    assert utility(myopic) < 0.3 * utility(optimum)  # who ignores the costs pays them
