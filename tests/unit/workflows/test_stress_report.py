"""The stress report: models side by side, everything JSON, risk that adds up."""

from __future__ import annotations

import json

import pytest

import foliocast as fc
from foliocast.apps.cli.stress import box
from foliocast.core.errors import ConfigError, DataError
from foliocast.workflows.stress import StressSpec, stress
from markets import make_panel

BOOK = {"A0": 0.4, "A1": 0.3}
SPEC = StressSpec(("fhs", "t-copula", "bootstrap"), 5, 400, {"A0": -0.1}, {"A2": -0.05}, 0.05, seed=3)


def test_report_is_complete_and_plain() -> None:
    report = stress(make_panel(500, 4), BOOK, SPEC)
    made = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(made["models"]) == {"fhs", "t-copula", "bootstrap"}
    for name, found in made["models"].items():
        parts = found["components"]
        total = parts.pop("total")
        for risk in ("cvar", "var", "volatility"):
            assert sum(row[f"component_{risk}"] for row in parts.values()) == pytest.approx(
                total[f"component_{risk}"], abs=1e-12
            )
        assert total["component_cvar"] == pytest.approx(found["unconditional"]["cvar"], abs=1e-9), name
        assert found["assets_given"]["A0"]["mean"] == pytest.approx(-0.1, abs=1e-6)
        assert found["given"]["mean"] < found["unconditional"]["mean"]
        assert found["reverse"]["loss"] == 0.05
    assert made["factor"]["low"] < made["factor"]["portfolio"] < made["factor"]["high"]
    assert made["historical"]["2008 financial crisis"]["return"] is None
    assert list(report.table().index.names) == ["model", "event"]


def test_same_seed_same_report_and_an_event_on_something_not_held() -> None:
    panel = make_panel(300, 3)
    spec = StressSpec(("bootstrap",), 3, 100, {"A2": -0.05})
    one, two = (stress(panel, {"A0": 1.0}, spec).to_dict() for _ in range(2))
    assert one == two
    assert one["models"]["bootstrap"]["assets_given"]["A2"]["weight"] == 0


def test_empty_books_and_strangers_are_refused() -> None:
    panel = make_panel(300, 3)
    with pytest.raises(ConfigError, match="empty"):
        stress(panel, {"A0": 0.0})
    with pytest.raises(DataError, match="ZZZ"):
        stress(panel, {"ZZZ": 1.0})
    with pytest.raises(ConfigError, match="at least one"):
        fc.stress(panel, {"A0": 1.0}, StressSpec(models=()))


def test_every_model_is_shown_on_one_scale() -> None:
    quantiles = {0.01: -0.3, 0.05: -0.2, 0.25: -0.1, 0.5: 0.0, 0.75: 0.1, 0.95: 0.2, 0.99: 0.3}
    assert box(quantiles, -0.3, 0.3, 7) == "·─█┃█─·"
    lower = box({q: v / 3 - 0.2 for q, v in quantiles.items()}, -0.3, 0.3, 61)
    assert len(lower) == 31
    assert lower.endswith("│")  # zero is where it is, whatever the model
    assert lower.index("┃") == 10
