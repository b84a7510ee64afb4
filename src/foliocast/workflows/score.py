"""The scorecard: scenario models side by side, walk-forward, out of sample, on proper scores.

Every model is refitted on the same rows, starts from the same histories with the same seeds, and is judged by the same
realised returns. `score` gives the table, `scorecard` also what it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, HistoryError, LookAheadError
from foliocast.core.panel import Panel
from foliocast.core.protocols import ScenarioModel, TaskRunner, serial
from foliocast.core.scenario_base import Bars, read_bars
from foliocast.stats import scoring
from foliocast.stats.fidelity import compare_facts, coverage_precision, memorisation, path_features, windows
from foliocast.stats.inference import conditional_coverage_test, diebold_mariano, kupiec_test

N_PORTFOLIOS = 32
WIDE = 60  # assets beyond which the variogram score looks at that many of them
LEVEL = 0.05
LAGS = 5  # at least so many neighbouring origins count as dependent
FACT_PATHS, FACT_BARS = 64, 250  # from the start of each fold: with eight, mean kurtosis was uncertain by .2
SHORT = 2  # paths of each origin, for collapse and memorisation
SCORES = ("energy", "portfolio", "crps", "variogram", "fz0")


@dataclass(frozen=True)
class Plan:
    """What every model is put through.

    Attributes
    ----------
    train : int
        Rows a model is fitted on, and handed as history at each origin.
    first : int
        Position of the first row that is forecast.
    refit, every, n_scenarios, seed : int
    horizons : tuple of int
    """

    train: int
    first: int
    refit: int
    every: int
    horizons: tuple[int, ...]
    n_scenarios: int
    seed: int
    allow_contaminated: bool = False

    def folds(self, n_rows: int) -> list[tuple[int, list[int]]]:
        """(rows known at the fit, numbers of known rows at each origin), fold by fold."""
        last = n_rows - max(self.horizons)
        origins = range(self.first, last + 1, self.every)
        starts = range(self.first, last + 1, self.refit)
        return [(start, [o for o in origins if start <= o < start + self.refit]) for start in starts]


@dataclass(frozen=True)
class ScoreCard:
    """Scores of several models at the same origins.

    Attributes
    ----------
    table : DataFrame
        A row a model, best 1-bar energy score first (or the shortest horizon's). ``energy_1`` and the like are means
        (lower is better); ``p_energy_1`` is the Diebold-Mariano p-value against the reference (two-sided).
    per_origin : dict of str to DataFrame
        By model: (origin x score), dated by the last known row.
    pits : dict of str to dict of int to ndarray (origin, asset)
        By model and horizon.
    reference : str
    horizons : tuple of int
    every : int
    facts : dict of str to DataFrame
        By model: stylised facts of the market and of the model over windows of up to 250 bars, with a bootstrap band
        (`stats.fidelity.compare_facts`). Empty where fewer than three such windows were walked through.
    """

    table: pd.DataFrame
    per_origin: dict[str, pd.DataFrame]
    pits: dict[str, dict[int, np.ndarray]] = field(repr=False)
    reference: str
    horizons: tuple[int, ...]
    every: int
    facts: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    def compare(self, reference: str | None = None) -> pd.DataFrame:
        """Mean difference to the reference with its standard error and p-value, (model x (score, figure))."""
        name = self.reference if reference is None else reference
        if name not in self.per_origin:
            raise ConfigError(f"reference '{name}' was not scored; the card holds {', '.join(self.per_origin)}")
        rows = {}
        for model, scores in self.per_origin.items():
            row = {}
            for column in scores.columns.drop("contaminated"):
                gap = _compare(scores[column], self.per_origin[name][column], _lags(column, self.every))
                row.update({(column, key): value for key, value in gap.items()})
            rows[model] = row
        return pd.DataFrame.from_dict(rows, orient="index").reindex(self.table.index)

    def to_html(self, path: str | None = None) -> str:
        """One page: the table, score differences through time, PIT histograms. Self-contained; needs no network."""
        from foliocast.workflows.score_page import page

        text = page(self)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text


def score(
    models: Mapping[str, ScenarioModel] | Sequence[ScenarioModel],
    returns: pd.DataFrame | Panel,
    start: str | pd.Timestamp | None = None,
    refit: int = 252,
    horizons: Sequence[int] = (1, 20),
    every: int = 5,
    n_scenarios: int = 1000,
    random_state: int = 0,
    run_tasks: TaskRunner = serial,
    **options: Any,
) -> pd.DataFrame:
    """Score scenario models walk-forward: a row a model, the best first.

    Parameters are those of `scorecard`, of which this is the table.
    """
    card = scorecard(models, returns, start, refit, horizons, every, n_scenarios, random_state, run_tasks, **options)
    return card.table


def scorecard(
    models: Mapping[str, ScenarioModel] | Sequence[ScenarioModel],
    returns: pd.DataFrame | Panel,
    start: str | pd.Timestamp | None = None,
    refit: int = 252,
    horizons: Sequence[int] = (1, 20),
    every: int = 5,
    n_scenarios: int = 1000,
    random_state: int = 0,
    run_tasks: TaskRunner = serial,
    *,
    train: int = 2520,
    reference: str | None = None,
    allow_contaminated: bool = False,
) -> ScoreCard:
    """Walk forward: refit, simulate from each origin, score what came.

    Parameters
    ----------
    models : mapping of name to model, or sequence of models
        Unfitted estimators (cloned for each fit); named by their repr in a sequence. A model that works on any assets
        without a fit (``fixed_assets`` False) is not fitted.
    returns : DataFrame (time x asset) of simple returns, or Panel
        A panel's prices reach the models that use them. Only rows complete in every asset count.
    start : date, optional
        First row that may be forecast; default: after ``train`` rows.
    refit, every : int
        Bars between fits, bars between origins.
    horizons : sequence of int
        Bars ahead; returns over a horizon are compounded.
    n_scenarios, random_state : int
        Every model gets the same seed at the same origin.
    run_tasks : TaskRunner
        Maps over (model, fold).
    train : int
        Rows of history, for the fit and at each origin.
    reference : str, optional
        Model that Diebold-Mariano tests compare with; default: the first.
    allow_contaminated : bool
        Score a model that has seen the period (``knowledge_until`` after the origin) instead of refusing; the table
        marks it.

    Notes
    -----
    Scores of the joint vector are of returns divided by the training standard deviation times the root of the horizon:
    ``energy``, ``variogram`` and ``crps`` (mean over assets). ``portfolio`` is the CRPS of 32 random portfolios, half
    long-only, half long-short, in units of their own training deviation. ``fz0`` judges VaR and expected shortfall at
    5 % (raw returns, mean over assets). ``cover_h`` is the share inside central 90 % intervals; ``kupiec_h`` and
    ``christoffersen_h`` test the 5 % VaR of the equal-weight portfolio (rate; rate and independence). ``facts`` is how
    many of the stylised facts lie in the bootstrap band of the data ("9/12"; windows simulated from the start of each
    fold against what came), ``coverage`` the share of realised paths with a simulated one nearby (low is collapse),
    ``copies`` the share of simulated paths nearer to a training path than 99 of 100 realised ones.

    Raises
    ------
    HistoryError
        No room for ``train`` rows before the first origin.
    LookAheadError
        A model knows the period that it is scored on.
    """
    named = _named(models)
    data = returns if isinstance(returns, Panel) else returns.loc[:, list(returns.columns)]
    bars = read_bars(data, train + max(horizons))
    first = train if start is None else max(train, int(bars.times.searchsorted(pd.Timestamp(start))))
    plan = Plan(train, first, refit, every, tuple(horizons), n_scenarios, random_state, allow_contaminated)
    folds = plan.folds(len(bars))
    if not folds:
        raise HistoryError(
            f"{len(bars)} complete rows leave no origin: {train} rows of training and {max(horizons)} bars ahead are "
            f"needed by the start ({bars.times[min(first, len(bars) - 1)].date()}); shorten train or start earlier"
        )
    tasks = [(name, model, data, bars, plan, fold) for name, model in named.items() for fold in folds]
    results: dict[str, list[_FoldResult]] = {n: [] for n in named}
    for task, result in zip(tasks, run_tasks(_score_fold, tasks)):
        results[task[0]].append(result)
    name = next(iter(named)) if reference is None else reference
    if name not in named:
        raise ConfigError(f"reference '{name}' is not among the models: {', '.join(named)}")
    joined = {n: _FoldResult.joined(parts) for n, parts in results.items()}
    facts = {n: table for n, r in joined.items() if (table := r.compared_facts()) is not None}
    table = _table(joined, facts, name, plan)
    per_origin, pits = {n: r.scores for n, r in joined.items()}, {n: r.pits for n, r in joined.items()}
    return ScoreCard(table, per_origin, pits, name, tuple(horizons), every, facts)


def _named(models: Mapping[str, ScenarioModel] | Sequence[ScenarioModel]) -> dict[str, ScenarioModel]:
    if isinstance(models, Mapping):
        return dict(models)
    names = [" ".join(repr(m).split()) for m in models]
    if len(set(names)) != len(names):
        raise ConfigError("two models of the same name; hand in a mapping of name to model")
    return dict(zip(names, models))


# ---- one fold of one model ------------------------------------------------------------------------------------------


def _slice(data: pd.DataFrame | Panel, bars: Bars, start: int, stop: int) -> pd.DataFrame | Panel:
    """Complete rows start to stop as the model would be handed them."""
    if isinstance(data, Panel):
        low = data.position(bars.times[start])
        return data.rows(max(low - 1, 0), data.position(bars.times[stop - 1]) + 1)
    return pd.DataFrame(bars.returns[start:stop], index=bars.times[start:stop], columns=list(bars.assets))


@dataclass(frozen=True)
class _FoldResult:
    """What one model did in one fold, or in all of them.

    Attributes
    ----------
    scores : DataFrame (origin x score)
    pits, hits : by horizon, (origin, asset) and (origin,)
    long : (real, simulated) windows (window, bar, asset), for the facts
    short : (training, realised, simulated) paths over the longest horizon, as features (path, feature)
    """

    scores: pd.DataFrame
    pits: dict[int, np.ndarray]
    hits: dict[int, np.ndarray]
    long: tuple[np.ndarray, np.ndarray]
    short: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def joined(cls, parts: list[_FoldResult]) -> _FoldResult:
        def each(key: str) -> dict[int, np.ndarray]:
            return {h: np.concatenate([getattr(p, key)[h] for p in parts]) for h in getattr(parts[0], key)}

        full = [p.long for p in parts if len(p.long[0])]
        long = [np.concatenate([w[k] for w in full]) if full else parts[0].long[k] for k in (0, 1)]
        short = [np.concatenate([p.short[k] for p in (parts if k else parts[:1])]) for k in (0, 1, 2)]
        scores = pd.concat([p.scores for p in parts])
        return cls(scores, each("pits"), each("hits"), (long[0], long[1]), (short[0], short[1], short[2]))

    def compared_facts(self) -> pd.DataFrame | None:
        real, simulated = self.long
        return compare_facts(real, simulated) if len(real) >= 3 else None

    def shape(self) -> dict[str, float]:
        """Collapse and memorisation of the short paths; nothing where there are too few."""
        train, real, simulated = self.short
        if min(len(train), len(real)) < 10:
            return {}
        near = coverage_precision(real, simulated)
        return {"coverage": near["coverage"], "copies": memorisation(train, real, simulated)["copies"]}


def _score_fold(
    task: tuple[str, ScenarioModel, pd.DataFrame | Panel, Bars, Plan, tuple[int, list[int]]],
) -> _FoldResult:
    name, model, data, bars, plan, (known, origins) = task
    fitted = clone(model)
    if getattr(model, "fixed_assets", True):
        fitted.fit(_slice(data, bars, known - plan.train, known))
    past = bars.returns[known - plan.train : known]
    ruler, furthest = _Ruler.of(past, plan), max(plan.horizons)
    rows: list[dict[str, float]] = []
    pits: dict[int, list[np.ndarray]] = {h: [] for h in plan.horizons}
    hits: dict[int, list[bool]] = {h: [] for h in plan.horizons}
    paths: list[np.ndarray] = []
    for origin in origins:
        history = _slice(data, bars, origin - plan.train, origin)
        seed = int(np.random.SeedSequence([plan.seed, origin]).generate_state(1)[0])
        scenarios = fitted.simulate(history, furthest, plan.n_scenarios, random_state=seed)
        seen = _has_seen(name, scenarios, bars.times[origin - 1], plan.allow_contaminated)
        row: dict[str, float] = {"contaminated": float(seen)}
        for h in plan.horizons:
            scores, u, hit = ruler.judge(scenarios, bars.returns[origin : origin + h], h)
            row.update({f"{key}_{h}": value for key, value in scores.items()})
            pits[h].append(u)
            hits[h].append(hit)
        rows.append(row)
        paths.append(np.array(scenarios.returns[:SHORT], dtype=float))
    shape = (len(origins), len(bars.assets))
    real = np.array([bars.returns[o : o + furthest] for o in origins]).reshape(-1, furthest, shape[1])
    drawn = np.concatenate(paths) if paths else real
    return _FoldResult(
        pd.DataFrame(rows, index=bars.times[[o - 1 for o in origins]]),
        {h: np.array(v).reshape(shape) for h, v in pits.items()},
        {h: np.array(v, dtype=bool) for h, v in hits.items()},
        _long_windows(fitted, data, bars, plan, known),
        (path_features(windows(past, furthest)), path_features(real), path_features(drawn)),
    )


def _long_windows(
    fitted: Any, data: pd.DataFrame | Panel, bars: Bars, plan: Plan, known: int
) -> tuple[np.ndarray, np.ndarray]:
    """The bars that followed the fit and paths simulated from there; nothing where the fold is cut short."""
    length = min(plan.refit, FACT_BARS)
    if known + length > len(bars) or length < 2 * max(plan.horizons):
        empty = np.empty((0, length, len(bars.assets)))
        return empty, empty
    history = _slice(data, bars, known - plan.train, known)
    seed = int(np.random.SeedSequence([plan.seed, known, 3]).generate_state(1)[0])
    simulated = fitted.simulate(history, length, FACT_PATHS, random_state=seed)
    return bars.returns[known : known + length][None], np.array(simulated.returns, dtype=float)


def _has_seen(name: str, scenarios: ScenarioSet, now: pd.Timestamp, allowed: bool) -> bool:
    """Whether the model knows what it is asked to foretell; refused unless allowed."""
    seen = scenarios.knowledge_until is not None and _later(scenarios.knowledge_until, now)
    if seen and not allowed:
        raise LookAheadError(
            f"{name} knows the market up to {scenarios.knowledge_until} and would be scored on what followed "
            f"{now}; start later or set allow_contaminated"
        )
    return seen


def _mean_known(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _later(known: pd.Timestamp, now: pd.Timestamp) -> bool:
    """Compare by the clock on the wall where one of the two has no zone."""
    return pd.Timestamp(known).tz_localize(None) > pd.Timestamp(now).tz_localize(None)


@dataclass(frozen=True)
class _Ruler:
    """Units and portfolios of a fold, from its training rows."""

    deviation: np.ndarray
    weights: np.ndarray
    portfolio_deviation: np.ndarray
    watched: np.ndarray

    @classmethod
    def of(cls, past: np.ndarray, plan: Plan) -> _Ruler:
        n = past.shape[1]
        rng = np.random.default_rng([plan.seed, 7])
        long_only = rng.dirichlet(np.ones(n), N_PORTFOLIOS // 2)
        both = rng.standard_normal((N_PORTFOLIOS // 2, n))
        weights = np.concatenate([long_only, both / np.abs(both).sum(axis=1, keepdims=True)])
        watched = np.unique(np.linspace(0, n - 1, min(n, WIDE)).astype(int))
        return cls(np.maximum(past.std(axis=0), 1e-12), weights, (past @ weights.T).std(axis=0) + 1e-12, watched)

    def judge(
        self, scenarios: ScenarioSet, realised: np.ndarray, horizon: int
    ) -> tuple[dict[str, float], np.ndarray, bool]:
        """Scores, PIT of each asset, whether the equal-weight portfolio fell through its VaR."""
        p = scenarios.probabilities
        weights = None if np.ptp(p) < 1e-15 else p
        returns = np.asarray(scenarios.returns[:, :horizon], dtype=float)
        draws, truth = np.prod(1.0 + returns, axis=1) - 1.0, np.prod(1.0 + realised, axis=0) - 1.0
        if weights is not None:  # VaR and PIT are read off equally likely draws
            order = np.searchsorted(np.cumsum(p), (np.arange(len(p)) + 0.5) / len(p)).clip(0, len(p) - 1)
            even = draws[order]
        else:
            even = draws
        unit = self.deviation * np.sqrt(horizon)
        x, y = draws / unit, truth / unit
        books = draws @ self.weights.T / (self.portfolio_deviation * np.sqrt(horizon))
        book_truth = truth @ self.weights.T / (self.portfolio_deviation * np.sqrt(horizon))
        scores = {
            "energy": scoring.energy_score(x, y, weights),
            "portfolio": float(scoring.crps(books, book_truth, weights).mean()),
            "crps": float(scoring.crps(x, y, weights).mean()),
            "fz0": _mean_known(scoring.fz0(*scoring.var_es(even, LEVEL), truth, LEVEL)),
        }
        if len(self.watched) > 1:
            scores["variogram"] = scoring.variogram_score(x[:, self.watched], y[self.watched], probabilities=weights)
        fell = float(truth.mean()) <= float(np.quantile(even.mean(axis=1), LEVEL))
        return scores, scoring.pit(even, truth), fell


# ---- the table ------------------------------------------------------------------------------------------------------


def _lags(column: str, every: int) -> int:
    """Horizon in origins: how many neighbouring scores share realised bars."""
    return max(1, -(-int(column.rsplit("_", 1)[1]) // every))


def _compare(scores: pd.Series, reference: pd.Series, lags: int) -> dict[str, float]:
    gap = scores.to_numpy() - reference.to_numpy()
    if not np.any(gap):
        return {"difference": 0.0, "error": 0.0, "p": 1.0}
    test = diebold_mariano(scores.to_numpy(), reference.to_numpy(), horizon=lags, lags=max(LAGS, 2 * lags))
    error = abs(gap.mean() / test.statistic) if test.statistic else float("nan")
    return {"difference": float(gap.mean()), "error": float(error), "p": float(test.p_value)}


def _table(results: dict[str, _FoldResult], facts: dict[str, pd.DataFrame], reference: str, plan: Plan) -> pd.DataFrame:
    rows = {}
    for name, result in results.items():
        scores, base = result.scores, results[reference].scores
        row: dict[str, float | bool | str] = {}
        for h in plan.horizons:
            for key in SCORES:
                column = f"{key}_{h}"
                if column not in scores:
                    continue
                row[column] = float(scores[column].mean())
                if key in ("energy", "portfolio"):
                    row[f"p_{column}"] = _compare(scores[column], base[column], _lags(column, plan.every))["p"]
            row[f"cover_{h}"] = scoring.coverage(result.pits[h])
            apart = result.hits[h][:: _lags(f"_{h}", plan.every)]  # overlapping returns cannot be independent hits
            row[f"kupiec_{h}"] = float(kupiec_test(apart, LEVEL).p_value)
            row[f"christoffersen_{h}"] = float(conditional_coverage_test(apart, LEVEL).p_value)
        if name in facts:
            row["facts"] = f"{int(facts[name]['inside'].sum())}/{len(facts[name])}"
        row |= result.shape()
        row["origins"] = len(scores)
        row["contaminated"] = bool(scores["contaminated"].any())
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "model"
    return table.sort_values(f"energy_{min(plan.horizons)}", kind="stable")
