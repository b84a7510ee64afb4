"""Numbers printed in papers and books, and figures computed once with other packages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast import stats


@pytest.mark.parametrize(("trials", "published"), [(100, 0.9004), (46, 0.9505)])
def test_deflated_sharpe_of_bailey_and_lopez_de_prado(trials: int, published: float) -> None:
    """Bailey and Lopez de Prado (2014), "A numerical example": annual SR 2.5 over 1,250 days of a 250-day year, the
    variance of the trials' annual ratios is 1/2, skewness -3, kurtosis 10."""
    deflated = stats.deflated_sharpe(
        2.5 / np.sqrt(250), n=1250, trials=trials, variance=0.5 / 250, skew=-3.0, kurt=10.0
    )
    assert deflated == pytest.approx(published, abs=5e-5)


def test_expected_maximum_of_the_same_example() -> None:
    assert stats.expected_max_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)


def test_minimum_track_record_is_2_73_years() -> None:
    """Bailey and Lopez de Prado (2012): daily, normal, annual SR 2 against 1 at 95 %."""
    bars = stats.min_track_record(2.0 / np.sqrt(252), benchmark=1.0 / np.sqrt(252))
    assert bars / 252 == pytest.approx(2.73, abs=0.005)


@pytest.mark.parametrize(
    ("sharpe", "n", "published"),
    [(0.5, 12, 0.306), (0.5, 60, 0.137), (1.0, 12, 0.354), (1.0, 250, 0.077), (3.0, 24, 0.479), (3.0, 500, 0.105)],
)
def test_standard_errors_of_lo(sharpe: float, n: int, published: float) -> None:
    """Lo (2002), table 1."""
    assert stats.iid_sharpe_error(sharpe, n) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(("rho", "published"), [(-0.2, 4.17), (0.0, 3.46), (0.2, 2.88)])
def test_annualisation_of_monthly_ratios_by_lo(rho: float, published: float) -> None:
    """Lo (2002), the scale factor eta(12) for first-order autoregressive monthly returns."""
    rhos = rho ** np.arange(1, 12)
    assert stats.annualisation_factor(None, 12, rhos) == pytest.approx(published, abs=5e-3)


def _chain(quiet: int, new: int, again: int) -> np.ndarray:
    """A series that begins quiet and makes exactly these transitions (as many back to quiet as away from it)."""
    runs = [1 + again, *[1] * (new - 1)]
    rest = quiet - new  # quiet to quiet
    out = [False] * (1 + rest)
    for run in runs:
        out += [True] * run + [False]
    return np.array(out)


def test_kupiec_and_christoffersen_as_in_jorion() -> None:
    """Jorion, Value at Risk (3rd ed.), ch. 6: 20 exceptions of a 95 % VaR in 252 days; 6 of them follow another one,
    14 follow a quiet day: LR 3.91, 9.53 and 13.44."""
    hits = _chain(quiet=232, new=14, again=6)
    assert (len(hits) - 1, hits.sum()) == (252, 20)
    assert stats.kupiec_test(hits[1:], 0.05).statistic == pytest.approx(3.91, abs=5e-3)
    assert stats.christoffersen_test(hits).statistic == pytest.approx(9.53, abs=5e-3)
    both = stats.conditional_coverage_test(hits, 0.05)
    assert both.statistic == pytest.approx(13.44, abs=5e-3)
    assert both.p_value < 0.01


def test_kupiec_and_christoffersen_as_in_jorions_exercise() -> None:
    """The same chapter, question 10: 6 exceptions of a 99 % VaR in 252 days, 4 after another: 3.498 and 25.837."""
    hits = _chain(quiet=246, new=2, again=4)
    assert stats.kupiec_test(hits[1:], 0.01).statistic == pytest.approx(3.498, abs=1e-3)
    assert stats.christoffersen_test(hits).statistic == pytest.approx(25.837, abs=5e-4)


def _waves() -> tuple[pd.Series, pd.Series]:
    i = np.arange(500)
    dates = pd.bdate_range("2015-01-01", periods=500)
    returns = pd.Series(0.0005 + 0.012 * np.sin(1.7 * i) + 0.006 * np.cos(0.31 * i * i), dates)
    returns.iloc[::50] = 0.0
    return returns, pd.Series(0.0003 + 0.010 * np.sin(1.7 * i + 0.3), dates)


@pytest.mark.parametrize(
    ("measure", "reference"),
    [
        ("annual_return", 0.14715401924628058),
        ("volatility", 0.14837866474087244),
        ("sharpe_ratio", 0.9994527191459008),
        ("sortino_ratio", 1.520786968547791),
        ("calmar_ratio", 2.6890072700654453),
        ("max_drawdown", -0.05472429207775966),
        ("win_rate", 0.4897959183673469),
        ("skewness", 0.0646033206306147),
        ("kurtosis", -1.0069902112794045),
    ],
)
def test_agreement_with_quantstats_and_empyrical(measure: str, reference: float) -> None:
    """Figures of empyrical-reloaded 0.7.1 (first six) and quantstats 0.0.86 (all of them) on `_waves`."""
    assert getattr(stats, measure)(_waves()[0]) == pytest.approx(reference, rel=1e-11)


def test_information_ratio_is_theirs_annualised() -> None:
    """empyrical's excess_sharpe and quantstats' information_ratio: 0.05426098305416419, per bar."""
    returns, benchmark = _waves()
    expected = 0.05426098305416419 * np.sqrt(252)
    assert stats.information_ratio(returns, benchmark) == pytest.approx(expected, rel=1e-11)
