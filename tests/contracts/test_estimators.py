"""scikit-learn's conventions, over every estimator the package exports, found by introspection."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from skfolio.optimization import InverseVolatility as SkfolioInverseVolatility
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

import foliocast
from foliocast import BlockBootstrap, NaiveForecaster, Optimized
from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel

# scikit-learn's own checks that do not hand in a feature matrix. The others draw X and y from make_blobs or
# make_regression; our estimators take a Panel or a DataFrame of returns, so they cannot apply. What they test
# beyond shapes of X (no mutation, determinism, refitting, not-fitted errors) is tested in the room's own contract.
CHECKS = (
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_mixin_order,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_estimator_tags_renamed,
)
# check by check, with the reason
EXEMPT: dict[tuple[str, str], str] = {}
# meta-estimators are built around another object: scikit-learn, too, builds those by an example
EXAMPLES: dict[str, dict[str, Any]] = {
    "SignalStrategy": {"forecaster": NaiveForecaster()},
    "ConformalForecaster": {"forecaster": NaiveForecaster()},
    "ScenarioStrategy": {"model": BlockBootstrap(), "policy": Optimized()},
    "ForecastStrategy": {"forecaster": NaiveForecaster(), "policy": Optimized()},
    "VolatilityTarget": {"policy": Optimized()},
    "FixedWeights": {"weights": {"A": 1.0}},
    "SkfolioPolicy": {"estimator": SkfolioInverseVolatility()},
}
for _name in EXAMPLES:
    EXEMPT[_name, "check_parameters_default_constructible"] = "has a required argument, the object it wraps"


def exported() -> dict[str, type]:
    found = {}
    for name in foliocast._PUBLIC:
        thing = getattr(foliocast, name)
        if inspect.isclass(thing) and issubclass(thing, BaseEstimator):
            found[name] = thing
    return found


ESTIMATORS = exported()


def defaults(kind: type) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(kind).parameters.values()}


def n_arguments(function: Any) -> int:
    return len([p for p in inspect.signature(function).parameters.values() if p.default is p.empty])


def build(name: str) -> Any:
    required = [p for p, value in defaults(ESTIMATORS[name]).items() if value is inspect.Parameter.empty]
    example = EXAMPLES.get(name, {})
    assert set(required) == set(example), f"{name} cannot be built without {required}: give it an example"
    return ESTIMATORS[name](**example)


def test_the_known_ones_are_found() -> None:
    assert {"AttentionLSTM", "LinearForecaster", "NaiveForecaster", "GaussianHMMRegime"} <= set(ESTIMATORS)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scikit_learn_check(name: str, check: Any) -> None:
    if (name, check.__name__) in EXEMPT:
        return
    check(name, build(name))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_constructor_only_stores(name: str) -> None:
    kind = ESTIMATORS[name]
    signature = inspect.signature(kind)
    assert all(p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL for p in signature.parameters.values())
    marker = {key: object() for key in defaults(kind)}
    made = kind(**marker)
    assert all(getattr(made, key) is value for key, value in marker.items())
    assert set(vars(made)) == set(marker)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_clone_round_trip(name: str) -> None:
    made = build(name)
    twin = clone(made)
    assert twin is not made
    assert repr(twin) == repr(made)
    changed = {key: 3 for key in ("random_state",) if key in made.get_params()}
    assert repr(clone(made.set_params(**changed)).get_params()) == repr(made.get_params())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_unfitted_is_said(name: str, panel: Panel) -> None:
    made = build(name)
    calls = {
        "predict": lambda: made.predict(panel),
        "forecast": lambda: made.forecast(panel.asof(panel.times[-1])),
        "transform": lambda: (
            made.transform(*[panel.return_array()] * n_arguments(made.transform))
            if "volatility" in inspect.signature(made.transform).parameters
            else made.transform(panel)
        ),
        "simulate": lambda: made.simulate(horizon=2, n_scenarios=3),
        "sample": lambda: made.sample(3),
    }
    there = [call for method, call in calls.items() if hasattr(made, method)]
    for call in there:
        # scenario models say it with the product's own error: their base class lives in core, without scikit-learn
        with pytest.raises((NotFittedError, ConfigError), match="not fitted"):
            call()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_default_values_cannot_be_changed_by_use(name: str) -> None:
    for key, value in defaults(ESTIMATORS[name]).items():
        assert not isinstance(value, (list, dict, set, np.ndarray)), f"{name}({key}=...) shares a mutable default"
