"""The parts of the end-to-end allocator: the programme as a layer, the heads, the account in the graph, the losses."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
import torch

import foliocast as fc
from foliocast.core.errors import ConfigError, SolverError
from foliocast.models.allocator.heads import Rules, capped, mean_variance, minimum_cvar, project, weigh
from foliocast.models.allocator.outcome import EXECUTIONS, Frictions, Objective, legs, period
from foliocast.models.allocator.qp import Programme, solve_qp
from foliocast.stats import measures
from markets import make_panel


def programme(seed: int, n: int = 4, m: int = 6, batch: int = 3) -> list[torch.Tensor]:
    """Random programmes with an interior around a random point; about half of the inequalities bind."""
    gen = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    root, inside = draw(batch, n, n), draw(batch, n)
    G, A = draw(batch, m, n), draw(batch, 1, n)
    h = (G @ inside[:, :, None])[..., 0] + 0.3 * torch.rand(batch, m, generator=gen, dtype=torch.float64)
    b = (A @ inside[:, :, None])[..., 0]
    Q = root @ root.transpose(1, 2) + 0.5 * torch.eye(n, dtype=torch.float64)
    return [Q, 3.0 * draw(batch, n), G, h, A, b]


@pytest.mark.parametrize("seed", range(3))
def test_the_layer_solves_what_cvxpy_solves(seed: int) -> None:
    data = programme(seed)
    found = solve_qp(Programme(*data)).numpy()
    for k in range(3):
        Q, q, G, h, A, b = (part[k].numpy() for part in data)
        x = cp.Variable(len(q))
        cp.Problem(cp.Minimize(cp.quad_form(x, cp.psd_wrap(Q)) / 2 + q @ x), [G @ x <= h, A @ x == b]).solve(
            solver="CLARABEL"
        )
        np.testing.assert_allclose(found[k], x.value, atol=1e-6)


def test_its_gradient_is_that_of_finite_differences() -> None:
    data = [part.requires_grad_() for part in programme(7, batch=2)]

    def solution(Q: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return solve_qp(Programme(0.5 * (Q + Q.transpose(1, 2)), *rest))

    assert torch.autograd.gradcheck(solution, data, eps=1e-5, atol=1e-4, rtol=1e-3)


def test_a_programme_without_an_interior_is_refused() -> None:
    data = programme(0)
    data[3] = data[3] - 100.0
    data[2] = torch.cat([data[2][:, :3], -data[2][:, :3]], dim=1)
    with pytest.raises(SolverError, match="no interior"):
        solve_qp(Programme(*data))


SCORES = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0], [1] * 6]).bool()
PAST = 0.01 * torch.randn(5, 60, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("head", ["softmax", "sparsemax", "mean_variance", "cvar"])
@pytest.mark.parametrize("gross", [1.0, 1.5])
def test_long_only_heads_give_portfolios(head: str, gross: float) -> None:
    weights = weigh(SCORES, MASK, Rules(head, gross), PAST)
    assert (weights >= 0).all()
    assert (weights[~MASK] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.full((5,), gross, dtype=torch.float64))


def test_long_short_keeps_its_gross_exposure_and_cash_is_what_is_left() -> None:
    weights = weigh(10 * SCORES, MASK, Rules("long_short", 1.3))
    torch.testing.assert_close(weights.abs().sum(dim=1), torch.full((5,), 1.3, dtype=torch.float64))
    small = weigh(0.01 * SCORES, MASK, Rules("long_short", 1.3))
    torch.testing.assert_close(small, torch.where(MASK, 0.01 * SCORES, 0.0))
    assert (weigh(SCORES - 5, MASK, Rules("softmax", cash=True)).sum(dim=1) < 0.2).all()


def test_sparsemax_is_the_projection_on_the_simplex() -> None:
    points = 2 * SCORES
    found = project(points)
    for k in range(5):
        x = cp.Variable(6)
        cp.Problem(cp.Minimize(cp.sum_squares(x - points[k].numpy())), [x >= 0, cp.sum(x) == 1]).solve(
            solver="CLARABEL"
        )
        np.testing.assert_allclose(found[k].numpy(), x.value, atol=1e-6)
    assert (found == 0).any()


def test_the_mean_variance_head_is_the_textbook_portfolio() -> None:
    rules = Rules("mean_variance", risk_aversion=8.0)
    found = mean_variance(SCORES[:1], MASK[:1], PAST[:1], rules)[0].numpy()
    past = PAST[0].numpy()
    covariance = np.cov(past.T)
    covariance = 0.8 * covariance + 0.2 * np.diag(np.diag(covariance))
    mean = 0.1 * SCORES[0].numpy() * past.std(axis=0, ddof=1)
    x = cp.Variable(6)
    risk = cp.quad_form(x, cp.psd_wrap(8.0 * covariance + 1e-6 * np.eye(6)))
    cp.Problem(cp.Maximize(mean @ x - risk / 2), [x >= 0, cp.sum(x) == 1]).solve(solver="CLARABEL")
    np.testing.assert_allclose(found, x.value, atol=1e-5)


def test_the_cvar_head_has_no_more_tail_than_any_other_portfolio() -> None:
    zero = torch.zeros_like(SCORES)
    weights = minimum_cvar(zero, MASK, PAST, Rules("cvar")).numpy()
    for k in range(5):
        past = PAST[k].numpy() - PAST[k].numpy().mean(axis=0)
        best = measures.cvar(past @ weights[k], 0.95)
        others = np.random.default_rng(k).dirichlet(np.full(6, 0.5), 3000) * MASK[k].numpy()
        others = others / np.maximum(others.sum(axis=1, keepdims=True), 1e-12)
        others = others[others.sum(axis=1) > 0.5]
        assert best <= min(measures.cvar(past @ w, 0.95) for w in others) + 1e-6


@pytest.mark.parametrize("head", ["softmax", "sparsemax", "long_short", "mean_variance", "cvar"])
def test_every_head_has_the_gradient_of_finite_differences(head: str) -> None:
    scores = SCORES[:2].clone().requires_grad_()
    rules = Rules(head, 1.0, risk_aversion=8.0)
    assert torch.autograd.gradcheck(
        lambda s: weigh(s, MASK[:2], rules, PAST[:2]), (scores,), eps=1e-6, atol=2e-4, rtol=1e-3
    )


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_account_in_the_graph_is_the_account_of_the_backtest(execution: str) -> None:
    """Ten random decisions earn in the graph, net, what the simulated broker says they earned."""
    panel = make_panel(60, 4)
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 12) * [1.2, 1.0, -0.5, 0.3]
    rows = np.arange(30, 42)
    wanted = pd.DataFrame(weights, index=panel.times[rows], columns=list(panel.assets))
    prices = panel.close().iloc[30:43]
    opens = panel.frame("open").iloc[30:43] if execution == "next_open" else None
    book = fc.backtest(wanted, prices, costs=fc.Costs(commission_bps=20), execution=execution, opens=opens)
    before, after = (torch.from_numpy(leg) for leg in legs(panel, execution))
    held, earned = torch.zeros(1, 4, dtype=torch.float64), []
    for row, target in zip(rows, weights):
        target = torch.from_numpy(target)[None]
        held, net = period(held, target, before[row : row + 1], after[row : row + 1], Frictions(0.002))
        earned.append(float(net))
    wealth = np.cumprod(1 + np.array(earned))
    if execution == "same_close":  # there a trade is paid for on the bar of its decision, here with the bar after
        assert wealth[-1] == pytest.approx(float(book.equity.iloc[-1]), abs=1e-7)
    else:
        np.testing.assert_allclose(wealth, book.equity.iloc[1:], atol=1e-7)


def test_legs_do_not_reach_beyond_the_next_bar() -> None:
    panel = make_panel(50, 3)
    for execution in EXECUTIONS:
        whole = legs(panel, execution)
        for cut, leg in zip(legs(panel.rows(0, 31), execution), whole):
            assert np.isnan(cut[-1]).all()
            np.testing.assert_array_equal(cut[:-1], leg[:30])


RETURNS = 0.01 * torch.randn(4, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.001


def test_losses_are_the_measures_of_the_field() -> None:
    r = RETURNS.reshape(-1).numpy()
    assert -float(Objective("return")(RETURNS)) == pytest.approx(252 * r.mean())
    assert -float(Objective("sharpe")(RETURNS)) == pytest.approx(252**0.5 * r.mean() / r.std(), rel=1e-6)
    assert -float(Objective("log")(RETURNS)) == pytest.approx(252 * np.log1p(r).mean())
    tail = measures.cvar(r, 0.95)
    assert -float(Objective("cvar", 2.0)(RETURNS)) == pytest.approx(252 * (r.mean() - 2 * tail))
    power = ((1 + r) ** (1 - 4) - 1) / (1 - 4)
    assert -float(Objective("utility", 4.0)(RETURNS)) == pytest.approx(252 * power.mean())
    worst = [measures.max_drawdown(row) for row in RETURNS.numpy()]
    growth = np.log1p(RETURNS.numpy()).mean(axis=1)
    expected = 252 * (growth - 0.5 * np.abs(worst) / 50).mean()
    assert -float(Objective("drawdown", 0.5)(RETURNS)) == pytest.approx(expected)
    assert -float(Objective("mean_variance", 3.0)(RETURNS)) == pytest.approx(252 * (r.mean() - 1.5 * r.var()))


@pytest.mark.parametrize("wrong", [{"head": "nonsense"}, {"gross": 0.0}, {"max_weight": 2.0}, {"level": 1.0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        Rules(**wrong)


def test_objectives_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose from return, sharpe"):
        Objective("alpha")


def test_a_cap_on_gross_exposure_leaves_smaller_ones_alone() -> None:
    inside = torch.tensor([[0.2, -0.3]])
    assert torch.equal(capped(inside, 1.0), inside)
