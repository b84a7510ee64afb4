"""What an investor believes otherwise than the model: entropy pooling and Black-Litterman on any scenario set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError, InfeasibleError


@dataclass(frozen=True)
class MeanView:
    """Expected return over the horizon of a combination of assets.

    Parameters
    ----------
    combination : mapping of asset to coefficient
        ``{"NVDA": 1}`` is absolute, ``{"NVDA": 1, "MSFT": -1}`` relative.
    value : float
    sense : {"==", ">=", "<="}
    """

    combination: Mapping[str, float]
    value: float
    sense: str = "=="


@dataclass(frozen=True)
class VolatilityView:
    """Standard deviation over the horizon of a combination of assets, about its mean (or the mean viewed)."""

    combination: Mapping[str, float]
    value: float
    sense: str = "=="


@dataclass(frozen=True)
class ProbabilityView:
    """Probability that a combination of assets returns less than a level: ``{"NVDA": 1}`` below -0.2 with 10 %."""

    combination: Mapping[str, float]
    below: float
    probability: float
    sense: str = "=="


View = MeanView | VolatilityView | ProbabilityView


def entropy_pooling(
    scenarios: ScenarioSet, views: Sequence[View], confidence: float = 1.0, tol: float = 1e-10
) -> ScenarioSet:
    """The same futures with the probabilities nearest in relative entropy that agree with the views (Meucci, 2008).

    Parameters
    ----------
    confidence : float
        1 imposes the views; less mixes the posterior with the prior in that proportion.

    Raises
    ------
    InfeasibleError
        No probabilities on these scenarios agree with the views; the message names the furthest.
    """
    if not views:
        return scenarios
    if not 0.0 <= confidence <= 1.0:
        raise ConfigError(f"confidence is {confidence}, expected a number from 0 (prior) to 1 (views imposed)")
    rows, levels, equal = _constraints(scenarios, views)
    scale = rows.std(axis=1) + np.abs(rows.mean(axis=1)) * 1e-12
    flat = scale <= 1e-300
    scale[flat] = 1.0
    rows, levels = rows / scale[:, None], levels / scale
    q = _nearest(scenarios.probabilities, rows, levels, equal, views, tol)
    mixed = confidence * q + (1.0 - confidence) * scenarios.probabilities
    return scenarios.reweighted(mixed / mixed.sum())


def _constraints(scenarios: ScenarioSet, views: Sequence[View]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (view, scenario), levels and which are equalities; ``>=`` is turned into ``<=``."""
    returns, rows, levels, equal = scenarios.cumulative().astype(float), [], [], []
    viewed = {
        tuple(sorted(v.combination.items())): v.value for v in views if isinstance(v, MeanView) and v.sense == "=="
    }
    for view in views:
        x = returns @ _coefficients(view.combination, scenarios.assets)
        if isinstance(view, MeanView):
            row, level = x, view.value
        elif isinstance(view, VolatilityView):
            mean = viewed.get(tuple(sorted(view.combination.items())), float(scenarios.probabilities @ x))
            row, level = (x - mean) ** 2, view.value**2
        else:
            row, level = (x < view.below).astype(float), view.probability
        if view.sense not in ("==", ">=", "<="):
            raise ConfigError(f"sense of a view is '{view.sense}', expected '==', '>=' or '<='")
        sign = -1.0 if view.sense == ">=" else 1.0
        rows.append(sign * row)
        levels.append(sign * level)
        equal.append(view.sense == "==")
    return np.array(rows), np.array(levels), np.array(equal)


def _coefficients(combination: Mapping[str, float], assets: tuple[str, ...]) -> np.ndarray:
    unknown = [a for a in combination if a not in assets]
    if unknown:
        raise DataError(f"a view names {', '.join(unknown)}, the scenarios hold {', '.join(assets[:8])}")
    return np.array([float(combination.get(a, 0.0)) for a in assets])


def _nearest(
    p: np.ndarray, rows: np.ndarray, levels: np.ndarray, equal: np.ndarray, views: Sequence[View], tol: float
) -> np.ndarray:
    """Dual Newton on the active views; inequalities enter when violated and leave when their multiplier turns."""
    active = equal.copy()
    q = p
    for _ in range(4 * len(levels) + 4):
        q, lam = _dual_newton(p, rows[active], levels[active], tol)
        miss = rows @ q - levels
        bad = np.where(equal, np.abs(miss), np.where(active, np.abs(miss), miss))
        if active.any() and bad[active].max() > 1e-6:
            worst = int(np.flatnonzero(active)[np.argmax(bad[active])])
            raise InfeasibleError(
                f"no probabilities on these scenarios agree with {views[worst]}"
                + (" together with the other views" if len(views) > 1 else "")
                + "; the scenarios do not reach that far: use more of them or a milder view"
            )
        where = np.flatnonzero(active)
        turned = [i for i, multiplier in zip(where, lam) if not equal[i] and multiplier < -1e-12]
        late = [i for i in np.flatnonzero(~active) if miss[i] > 1e-9]
        if not turned and not late:
            return q
        active[turned] = False
        active[late[:1]] = True
    return q


def _dual_newton(p: np.ndarray, rows: np.ndarray, levels: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """``min log sum p exp(-lam . rows) + lam . levels``: the dual of least relative entropy under equalities."""
    lam = np.zeros(len(levels))
    if not len(levels):
        return p, lam

    def look(at: np.ndarray) -> tuple[float, np.ndarray]:
        exponent = -at @ rows
        top = exponent.max()
        weight = p * np.exp(exponent - top)
        return float(top + np.log(weight.sum()) + at @ levels), weight / weight.sum()

    value, q = look(lam)
    for _ in range(200):
        gradient = levels - rows @ q
        if np.abs(gradient).max() < tol:
            break
        centred = rows - (rows @ q)[:, None]
        bend = (centred * q) @ centred.T
        bend[np.diag_indices(len(bend))] += 1e-14 * max(float(np.trace(bend)), 1e-300)
        step = -np.linalg.lstsq(bend, gradient, rcond=None)[0]
        if not np.isfinite(step).all() or np.abs(step).max() > 1e12:
            break  # all probability has run to the edge of the scenarios: the caller sees what is missed
        length = min(1.0, 50.0 / max(float(np.abs(step).max()), 1e-300))
        for _ in range(40):
            new, weights = look(lam + length * step)
            if new <= value + 1e-4 * length * float(gradient @ step):
                break
            length *= 0.5
        else:
            break
        lam, value, q = lam + length * step, new, weights
        if np.abs(lam).max() > 1e6:
            break
    return q, lam


def effective_scenarios(scenarios: ScenarioSet) -> float:
    """How many equally likely scenarios carry as much information: ``exp`` of the entropy of the probabilities."""
    q = scenarios.probabilities[scenarios.probabilities > 0]
    return float(np.exp(-q @ np.log(q)))


def black_litterman(
    scenarios: ScenarioSet,
    views: Sequence[MeanView],
    equilibrium: Mapping[str, float] | None = None,
    tau: float = 0.05,
    confidence: float = 0.5,
) -> ScenarioSet:
    """Move the scenarios' means to the Black-Litterman posterior and keep their shape (Black and Litterman, 1992).

    Parameters
    ----------
    equilibrium : mapping of asset to float, optional
        Prior expected returns over the horizon; None takes the scenarios' own.
    tau : float
        Uncertainty of the prior mean, as a fraction of the covariance.
    confidence : float
        Of the views, in (0, 1]: their variance is ``tau (1 - c) / c`` times that of the combination (Idzorek, 2005);
        0.5 weighs view and prior alike.

    Notes
    -----
    Compounded returns are shifted by adding the same amount to each asset's final wealth, so paths
    then, volatility and dependence stay those of the model.
    """
    if any(view.sense != "==" for view in views):
        raise ConfigError("Black-Litterman takes views with sense '=='; use entropy_pooling for inequalities")
    if not 0.0 < confidence <= 1.0:
        raise ConfigError(f"confidence is {confidence}, expected a number above 0 and at most 1")
    total, p = scenarios.cumulative().astype(float), scenarios.probabilities
    mean = p @ total
    prior = mean if equilibrium is None else np.array([equilibrium[a] for a in scenarios.assets], dtype=float)
    centred = total - mean
    covariance = (centred * p[:, None]).T @ centred
    picks = np.array([_coefficients(v.combination, scenarios.assets) for v in views]).reshape(len(views), len(mean))
    told = np.array([v.value for v in views])
    spread = tau * picks @ covariance @ picks.T
    noise = np.diag(np.diag(spread)) * (1.0 - confidence) / confidence
    gain = tau * covariance @ picks.T @ np.linalg.pinv(spread + noise)
    shift = prior + gain @ (told - picks @ prior) - mean
    returns = np.array(scenarios.returns, dtype=float)
    before = np.prod(1.0 + returns[:, :-1, :], axis=1)
    returns[:, -1, :] += shift / before
    if (returns[:, -1, :] <= -1.0).any():
        raise InfeasibleError(
            "the views move some scenarios below a loss of 100 %; use milder views or entropy_pooling"
        )
    return replace(scenarios, returns=returns)
