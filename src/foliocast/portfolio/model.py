"""A problem as the solvers read it: terms and constraints sorted by kind, and the scaled program made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from foliocast.core.errors import ConfigError, InfeasibleError
from foliocast.portfolio import terms as t
from foliocast.portfolio.interior import Program
from foliocast.portfolio.market import Market

FEASIBLE = 1e-7  # a constraint may be missed by this much of its own size


@dataclass
class Model:
    """Utility and constraints on one market, sorted by kind, in the units of the returns."""

    market: Market
    objective: t.Expression
    lower: np.ndarray
    upper: np.ndarray
    equalities: list[tuple[np.ndarray, float, str]]
    limits: list[tuple[t.Expression | None, np.ndarray, float, str]]
    bounds: list[tuple[np.ndarray, np.ndarray, str]]

    @property
    def bound_names(self) -> list[str]:
        """Names of the constraints that bound single weights."""
        return list(dict.fromkeys(name for _, _, name in self.bounds))


def build(market: Market, utility: t.Sum, constraints: Iterable[t.Constraint]) -> Model:
    """Sort constraints by kind and check that the problem is convex."""
    n = market.n
    objective = t.Expression(_merged(utility, market))
    _check_shape(objective, "the utility")
    model = Model(market, objective, np.full(n, -np.inf), np.full(n, np.inf), [], [], [])
    for constraint in constraints:
        _add(model, constraint)
    if (model.lower > model.upper + 1e-12).any():
        worst = market.assets[int(np.argmax(model.lower - model.upper))]
        raise InfeasibleError(
            f"{' and '.join(model.bound_names)} contradict each other: {worst} must be at least "
            f"{model.lower[market.assets.index(worst)]:g} and at most {model.upper[market.assets.index(worst)]:g}"
        )
    fixed = model.upper - model.lower < 1e-12
    if np.count_nonzero(fixed):
        market.fix(fixed, model.lower)
    return model


def _merged(expression: t.Sum, market: Market) -> tuple[tuple[float, t.Term], ...]:
    """Equal terms added up; trading terms without known holdings left out."""
    found: list[tuple[float, t.Term]] = []
    for coef, term in expression.parts():
        if coef == 0.0 or (isinstance(term, t.Traded) and term.reference(market) is None):
            continue
        for i, (other, same) in enumerate(found):
            if same is term or repr(same) == repr(term):
                found[i] = (other + coef, same)
                break
        else:
            found.append((coef, term))
    return tuple(found)


def _check_shape(utility: t.Expression, where: str) -> None:
    for coef, term in utility.terms:
        if coef * term.shape > 0:
            raise ConfigError(
                f"{coef:g} * {term} in {where} is not convex: risks and costs are subtracted from a utility, bounded "
                "from above, growth is added and bounded from below"
            )


def _add(model: Model, constraint: t.Constraint) -> None:
    market, n, name = model.market, model.market.n, str(constraint)
    ones = np.ones(n)
    match constraint:
        case t.LongOnly():
            _bound(model, np.zeros(n), np.full(n, np.inf), name)
        case t.Bounds():
            _bound(
                model,
                t.spread(constraint.lower, market.assets, -np.inf),
                t.spread(constraint.upper, market.assets, np.inf),
                name,
            )
        case t.Budget():
            model.equalities.append((ones, constraint.total, name))
        case t.NetExposure():
            _between(model, ones, constraint.lower, constraint.upper, name)
        case t.Linear():
            row = t.spread(constraint.coefficients, market.assets, 0.0)
            _between(model, row, constraint.lower, constraint.upper, name)
        case t.Groups():
            for group in sorted(set(constraint.members.values())):
                row = np.array([float(constraint.members.get(a) == group) for a in market.assets])
                low, high = (
                    side.get(group, default) if not np.isscalar(side) else side  # type: ignore[union-attr]
                    for side, default in ((constraint.lower, -np.inf), (constraint.upper, np.inf))
                )
                _between(model, row, float(low), float(high), f"Groups({group})")  # type: ignore[arg-type]
        case t.Leverage():
            limit = t.GrossExposure() <= constraint.limit
            model.limits.append((limit.expression, np.zeros(n), constraint.limit, name))
        case t.Limit():
            kept = t.Expression(_merged(constraint.expression, market))
            _check_shape(-kept, f"the limit {name}")
            if kept.terms:
                model.limits.append((kept, np.zeros(n), constraint.bound, name))
        case _:
            raise ConfigError(
                f"{constraint!r} is not a constraint of the optimiser; see foliocast.portfolio.terms for those that are"
            )


def _bound(model: Model, lower: np.ndarray, upper: np.ndarray, name: str) -> None:
    model.lower, model.upper = np.maximum(model.lower, lower), np.minimum(model.upper, upper)
    model.bounds.append((lower, upper, name))


def _between(model: Model, row: np.ndarray, low: float, high: float, name: str) -> None:
    if low > high:
        raise InfeasibleError(f"{name} contradicts itself: its lower end {low:g} is above its upper end {high:g}")
    if low == high:
        model.equalities.append((row, low, name))
        return
    if np.isfinite(high):
        model.limits.append((None, row, high, name))
    if np.isfinite(low):
        model.limits.append((None, -row, -low, name))


def misses(model: Model, w: np.ndarray) -> str | None:
    """Name of a constraint that the weights do not meet, None when they meet all."""
    if (w < model.lower - FEASIBLE).any() or (w > model.upper + FEASIBLE).any():
        return " and ".join(model.bound_names)
    for row, level, name in model.equalities:
        if abs(row @ w - level) > FEASIBLE * max(1.0, abs(level)):
            return name
    for expression, row, bound, name in model.limits:
        reached = row @ w + (0.0 if expression is None else expression.measure(model.market, w))
        size = 1.0 if expression is None else sum(abs(c) * term.unit(model.market) for c, term in expression.terms)
        if reached > bound + 10 * FEASIBLE * max(size, abs(bound)):
            return name
    return None


def compile_program(model: Model) -> tuple[Program, float, float]:
    """The scaled program, the unit of its objective, and the constant that was left out of it."""
    market = model.market
    free = np.arange(market.n) if market.free is None else market.free
    goal = -model.objective
    rows: list[tuple[t.Expression | None, np.ndarray, float]] = [(goal, np.zeros(market.n), 0.0)]
    rows += [(expression, row, bound) for expression, row, bound, _ in model.limits]
    terms: list[t.Term] = []
    table: list[dict[int, float]] = []
    linear = np.zeros((len(rows), market.n))
    for i, (expression, row, _) in enumerate(rows):
        linear[i] += row
        table.append({})
        for coef, term in expression.terms if expression is not None else ():
            if term.shape == 0:
                linear[i] += coef * term.linear(market)
                continue
            at = next((j for j, other in enumerate(terms) if repr(other) == repr(term)), len(terms))
            if at == len(terms):
                terms.append(term)
            table[i][at] = table[i].get(at, 0.0) + coef * (term.shape if term.shape else 1)
    units = [term.unit(market) for term in terms]
    constant = linear @ market.base
    sizes = np.array(
        [
            max([np.abs(linear[i, free]).max(initial=0.0)] + [abs(c) * units[j] for j, c in table[i].items()]) or 1.0
            for i in range(len(rows))
        ]
    )
    coefs = np.zeros((len(terms), len(rows)))
    for i, entries in enumerate(table):
        for j, c in entries.items():
            coefs[j, i] = c * units[j] / sizes[i]
    blocks = [term.block(market, coefs[j]) for j, term in enumerate(terms)]
    limits = np.array([(bound - constant[i]) / sizes[i] for i, (_, _, bound) in enumerate(rows) if i > 0])
    offset = _outside(model, rows, table, terms)
    limits -= offset[1:] / sizes[1:]
    matrix, level = _equalities(model, free)
    lower, upper = model.lower[free], model.upper[free]
    program = Program(
        market.ops,
        lower,
        upper,
        matrix,
        level,
        linear[:, free] / sizes[:, None],
        limits,
        blocks,
        _box(model, free, matrix, level),
    )
    return program, float(sizes[0]), float(constant[0] + offset[0])


def _outside(model: Model, rows: Sequence[object], table: list[dict[int, float]], terms: list[t.Term]) -> np.ndarray:
    """What positions that are fixed cost in the trading terms, a number a row."""
    out, market = np.zeros(len(rows)), model.market
    if market.free is None:
        return out
    for i, entries in enumerate(table):
        for j, coef in entries.items():
            term = terms[j]
            if isinstance(term, t.Traded):
                ref = term.reference(market)
                k, c = term.rates(market)
                d = np.abs(market.base - (0.0 if ref is None else ref))[market.held]
                out[i] += coef * float(k[market.held] @ d + c[market.held] @ d**1.5)
    return out


def _equalities(model: Model, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, levels = [], []
    for row, level, name in model.equalities:
        size = float(np.abs(row[free]).max(initial=0.0))
        left = level - float(row @ model.market.base)
        if size == 0.0:
            if abs(left) > FEASIBLE:
                raise InfeasibleError(f"{name} cannot hold: {' and '.join(model.bound_names)} fix all assets in it")
            continue
        rows.append(row[free] / size)
        levels.append(left / size)
    return np.array(rows).reshape(len(rows), len(free)), np.array(levels)


def _box(model: Model, free: np.ndarray, matrix: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that follow from bounds, equalities, gross and turnover limits: where the certificate must hold."""
    low, up = model.lower[free].copy(), model.upper[free].copy()
    for expression, _, bound, _ in model.limits:
        for coef, term in expression.terms if expression is not None else ():
            if len(expression.terms) == 1 and isinstance(term, t.GrossExposure | t.Turnover):  # type: ignore[union-attr]
                ref = term.reference(model.market)
                centre = np.zeros(len(free)) if ref is None else ref[free]
                low, up = np.maximum(low, centre - bound / coef), np.minimum(up, centre + bound / coef)
    for _ in range(2):
        for row, right in zip(matrix, level):
            least = np.where(row > 0, row * low, np.where(row < 0, row * up, 0.0))
            most = np.where(row > 0, row * up, np.where(row < 0, row * low, 0.0))
            with np.errstate(invalid="ignore", divide="ignore"):
                top = (right - (least.sum() - least)) / row
                bottom = (right - (most.sum() - most)) / row
            new_up, new_low = np.where(row > 0, top, bottom), np.where(row > 0, bottom, top)
            up = np.where((row != 0) & np.isfinite(new_up), np.minimum(up, new_up), up)
            low = np.where((row != 0) & np.isfinite(new_low), np.maximum(low, new_low), low)
    return low, up
