"""Every page of the dashboard, driven in process: no exception, and what it shows is what it should."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from foliocast import AttentionLSTM, load_panel
from foliocast.apps.dashboard import forecast, shared
from foliocast.runtime.files import plain
from foliocast.runtime.home import home
from foliocast.runtime.tracking import Record, tracker
from foliocast.workflows.runs import new_run
from foliocast.workflows.score import scorecard
from foliocast.workflows.simulate import make_model
from unit.funds.fund_market import make_corpus

MAIN = Path(shared.__file__).with_name("main.py")


def _script(module: str) -> None:
    import importlib

    from foliocast.apps.dashboard.shared import choose_data, told

    choose_data()
    with told():
        importlib.import_module(f"foliocast.apps.dashboard.{module}").page()


def page(module: str, **state: Any) -> AppTest:
    """A page after its first run, with something in the session; it shows no error."""
    return good(raw(module, **state))


def raw(module: str, **state: Any) -> AppTest:
    """A page after its first run, errors and all."""
    test = AppTest.from_function(_script, args=(module,), default_timeout=120)
    for key, value in state.items():
        test.session_state[key.replace("__", "-")] = value
    return test.run()


def good(test: AppTest) -> AppTest:
    assert not [e.message for e in test.exception]
    assert not [e.value for e in test.error]
    return test


def turn(test: AppTest, key: str, view: str) -> AppTest:
    """Another tab of a page."""
    test.session_state[key] = view
    return good(test.run())


def charts(test: AppTest) -> int:
    return len(test.get("plotly_chart"))


def said(test: AppTest) -> str:
    """All that a page says in words."""
    parts = [*test.markdown, *test.caption, *test.info, *test.warning, *test.error, *test.subheader, *test.title]
    return "\n".join(str(part.value) for part in parts)


def labelled(elements: Any, label: str) -> Any:
    return next(e for e in elements if label in e.label)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Each test has a home of its own, so the store of jobs must be its own, too."""
    shared.job_store.clear()


# ---- the whole


def test_the_entry_shows_all_pages_and_the_first_one() -> None:
    test = good(AppTest.from_file(str(MAIN), default_timeout=120).run())
    assert test.title[0].value == "Forecast"
    assert test.sidebar.selectbox[0].value == "sample:tech"
    assert charts(test) == 2


def test_a_bug_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(forecast, "page", lambda: {}["missing"])
    test = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert not test.exception
    assert "bug in Foliocast" in test.error[0].value
    assert "Traceback" in capsys.readouterr().err


# ---- forecast


def test_forecast_follows_ticker_days_and_data() -> None:
    test = page("forecast")
    assert len(test.dataframe[0].value) == 7
    assert "research" in said(test)
    first = test.dataframe[0].value.iloc[0].to_dict()
    labelled(test.slider, "Trading days").set_value(9)
    good(test.run())
    assert test.dataframe[0].value.iloc[0].to_dict() == first
    labelled(test.selectbox, "Ticker").select("NVDA")
    labelled(test.slider, "Trading days").set_value(30)
    good(test.run())
    assert "NVDA" in test.metric[0].label
    table = test.dataframe[0].value
    assert len(table) == 30
    assert set(table["day"]) == {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}
    assert (table["price"] > 0).all()
    labelled(test.selectbox, "Data").select("sample:sp500")
    good(test.run())
    assert [m.label for m in test.metric if m.label == "Volume"] == []


def test_a_network_is_not_fitted_unasked() -> None:
    test = page("forecast")
    labelled(test.selectbox, "Model").select("attention_lstm")
    good(test.run())
    assert labelled(test.button, "Fit Attention LSTM now")
    assert charts(test) == 1


def test_attention_of_a_trained_network_is_shown() -> None:
    panel = load_panel("sample:tech")
    small = AttentionLSTM(hidden=4, epochs=1, window=10, n_paths=50, random_state=0)
    small.fit(panel.rows(len(panel) - 300, len(panel))).save(home() / "models" / "small")
    test = page("forecast")
    labelled(test.selectbox, "Model").select("small")
    good(test.run())
    assert "Where it looked" in said(test)
    assert "10 bars before each" in said(test)
    assert charts(test) == 3


# ---- scenarios


def test_scenarios_meet_the_event_in_every_view() -> None:
    test = page("scenarios")
    assert charts(test) == 1
    test.toggle[0].set_value(True)
    good(test.run())
    assert "Given NVDA -20%" in said(test)
    for view, count in (("Joint", 1), ("Correlation", 2), ("Fill in", 1)):
        assert charts(turn(test, "scenario-view", view)) == count, view
    assert "80 % band" in said(test)
    turn(test, "scenario-view", "Table")
    assert test.dataframe[0].value.loc["NVDA", "mean"] == pytest.approx(-0.2)
    assert "largest miss" in said(test)
    turn(test, "scenario-view", "Scorecard")
    assert "Nothing has run here yet" in said(test)


def test_a_scorecard_is_shown_when_its_job_has_ended() -> None:
    returns = load_panel("sample:tech").returns()[["NVDA", "META"]].tail(420)
    models = {name: make_model(name, 0) for name in ("bootstrap", "iid")}
    card = scorecard(models, returns, every=21, n_scenarios=50, train=300)
    finished("simulate", 0, "done", plain({"scorecard": card.table.reset_index().to_dict("records")}))
    test = turn(page("scenarios"), "scenario-view", "Scorecard")
    shown = test.dataframe[0].value
    assert "Block bootstrap" in shown.index
    assert {"energy_1", "p_energy_1", "cover_20", "kupiec_1", "origins"} <= set(shown.columns)


def test_one_asset_and_none_are_told() -> None:
    test = page("scenarios")
    test.multiselect[0].set_value(["NVDA"])
    for view in ("Joint", "Correlation", "Fill in"):
        assert "two assets or more" in said(turn(test, "scenario-view", view))
    test.multiselect[0].set_value([])
    assert "at least one asset" in said(good(test.run()))


def test_a_model_that_knows_the_future_is_refused() -> None:
    test = page("scenarios")
    labelled(test.selectbox, "Scenario model").select("pretrained")
    labelled(test.selectbox, "Data").select("sample:sp500")
    test.run()
    assert not test.exception
    told = [e.value for e in test.error]
    assert told == [] or "knows" in told[0] or "seen" in told[0]


# ---- portfolio


def test_a_proposal_can_be_taken_and_is_the_book_then() -> None:
    test = page("portfolio")
    assert test.metric[0].label == "Expected return"
    labelled(test.selectbox, "Objective").select("max_return")
    labelled(test.slider, "Largest weight").set_value(50)
    good(test.run())
    labelled(test.button, "Take this book").click()
    good(test.run())
    book = test.session_state["book"]
    assert book["name"] == "Most return book"
    assert book["weights"].max() == pytest.approx(0.5, abs=1e-6)


def test_every_view_of_a_portfolio_draws() -> None:
    test = page("portfolio", book={"weights": pd.Series({"NVDA": 0.5, "META": 0.3}), "name": "Mine"})
    for view, count in (("Frontier", 1), ("Kelly", 2), ("Risk", 3), ("Present book", 0)):
        assert charts(turn(test, "portfolio-view", view)) == count, view
    assert "Adds up to 80.0 %" in said(test)


def test_limits_that_contradict_each_other_are_told_in_a_sentence() -> None:
    test = page("portfolio")
    labelled(test.slider, "Largest weight").set_value(5)
    test.run()
    assert not test.exception
    assert "cannot add up to 100 %" in test.error[0].value


def test_names_outside_the_data_are_said() -> None:
    test = page("portfolio", book={"weights": pd.Series({"NVDA": 0.5, "XYZ": 0.5}), "name": "Odd"})
    assert "XYZ" in said(turn(test, "portfolio-view", "Present book"))


# ---- stress


def test_every_stress_draws_and_speaks() -> None:
    test = page("stress", book={"weights": pd.Series({"NVDA": 0.6, "META": 0.4}), "name": "Mine"})
    assert "Mine" in said(test)
    assert charts(test) == 1
    views = {"Event": 1, "Factor shock": 1, "Reverse": 1, "Who carries the risk": 2, "Correlations": 1}
    for view, count in views.items():
        assert charts(turn(test, "stress-view", view)) == count, view
    labelled(test.slider, "returns, %").set_value(0)
    assert "event is zero" in said(turn(test, "stress-view", "Event"))


def test_data_without_known_episodes_say_so(tmp_path: Path) -> None:
    short = load_panel("sample:tech").between("2023-01-01").close()
    file = tmp_path / "short.csv"
    short.to_csv(file, index_label="date")
    labels = {"data": str(file)}
    test = AppTest.from_function(_alone, args=(str(file),), default_timeout=60)
    for key, value in labels.items():
        test.session_state[key] = value
    assert "none of the known episodes" in said(good(test.run()))


def _alone(source: str) -> None:
    import pandas as pd

    from foliocast.apps.dashboard import stress
    from foliocast.workflows.stress import StressSpec
    from foliocast.workflows.stress import stress as work

    panel = stress.panel(source)
    stress._episodes(work(panel, pd.Series({"NVDA": 1.0}), StressSpec(models=("bootstrap",), n=200)), source)


# ---- prompt


def test_a_prompt_gives_funds_that_can_be_held() -> None:
    test = page("prompt")
    assert "manager: buffett" in said(test)
    assert int(test.metric[0].value) > 5
    labelled(test.button, "Use as book").click()
    good(test.run())
    assert test.session_state["book"]["weights"].sum() == pytest.approx(1.0)
    for view, count in (("Out of noise", 2), ("What moved it", 1), ("Nearest real funds", 0)):
        assert charts(turn(test, "prompt-view", view)) == count, view
    assert "not part of the package" in said(test)


def test_a_prompt_that_is_not_understood_or_empty_is_told() -> None:
    test = page("prompt", prompt="growth, wibble, n=8")
    assert "wibble" in said(test)
    test.text_input(key="prompt").set_value("  ")
    labelled(test.button, "Generate").click()
    assert "Say something" in said(good(test.run()))


def test_a_fund_can_be_kept_to_names_in_the_data() -> None:
    test = page("prompt", prompt="growth, large-cap", data="sample:all", prompt__mine=True)
    labelled(test.button, "Use as book").click()
    good(test.run())
    assert set(test.session_state["book"]["weights"].index) <= set(load_panel("sample:all").assets)


def test_real_funds_near_a_sample_are_listed_from_a_corpus() -> None:
    make_corpus().save(home() / "corpora" / "mine")
    test = turn(page("prompt", prompt="growth"), "prompt-view", "Nearest real funds")
    assert set(test.dataframe[0].value["sample"]) == {1, 2, 3, 4}
    assert test.dataframe[0].value["overlap"].between(0, 1).all()


def test_limits_of_a_fund_that_cannot_be_met_are_told() -> None:
    test = raw("prompt", prompt="growth", prompt__largest=2, prompt__names=10)
    assert not test.exception
    assert not test.metric
    assert "less than one" in test.error[0].value


# ---- backtest, runs, live


def test_a_config_that_is_wrong_never_becomes_a_job() -> None:
    test = page("backtest")
    assert "Nothing has run here yet" in said(test)
    for text, message in (("name = [", "not valid TOML"), ("wibble = 1", "unknown key 'wibble'")):
        test.text_area[0].set_value(text)
        labelled(test.button, "Run").click()
        test.run()
        assert not test.exception
        assert message in test.error[0].value
    assert shared.job_store().list() == []


def finished(verb: str, number: int, status: str, result: dict[str, Any]) -> None:
    """A job that has ended, as its folder tells."""
    job = home() / "dashboard" / "jobs" / f"{verb}-00000000000{number}"
    job.mkdir(parents=True)
    about = {"id": job.name, "verb": verb, "arguments": [], "status": status, "created": f"2024-01-0{number + 1}"}
    (job / "job.json").write_text(json.dumps(about))
    (job / "result.json").write_text(json.dumps(result))


def test_jobs_show_how_they_ended() -> None:
    done = {"sharpe": {"value": 1.0, "low": 0.2, "high": 1.7}}
    for number, (status, result) in enumerate(
        (
            ("done", {"strategies": {"equal": done}, "trials": 3, "audit": {"passed": True}}),
            ("failed", {"error": "the data have ended"}),
            ("cancelled", {}),
        )
    ):
        finished("backtest", number, status, result)
    test = raw("backtest")
    assert not test.exception
    assert [e.value for e in test.error] == ["the data have ended"]
    assert labelled(test.button, "Resume")
    assert charts(test) == 1
    assert "3 trials" in said(test)


def test_a_job_is_queued_and_its_failure_told(tmp_path: Path) -> None:
    store = shared.job_store()
    job = store.submit("backtest", [str(tmp_path / "none.toml")])
    test = raw("backtest")
    assert not test.exception
    for _ in range(600):
        if store.get(job.id).status == "failed":
            break
        time.sleep(0.1)
    test.run()
    assert "none.toml" in test.error[0].value


def test_runs_are_listed_compared_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No runs yet" in said(page("runs"))
    run = new_run(tmp_path / "runs", "mine", {"data": {"name": "sample"}}, "")
    run.update(status="done")
    numbers = {
        "sharpe": {"value": 1.0, "low": 0.1, "high": 1.9},
        "annual_return": {"value": 0.2},
        "deflated_sharpe": 0.4,
    }
    metrics = {"strategies": {"a": numbers, "b": numbers}, "audit": {"passed": True}}
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    times = pd.bdate_range("2020-01-01", periods=50)
    pd.DataFrame({"a": np.linspace(1, 2, 50), "b": 1.0}, index=times).to_parquet(run.path / "equity.parquet")
    test = page("runs")
    assert test.dataframe[0].value["audit"].tolist() == ["passed"]
    assert test.dataframe[1].value["Sharpe"].tolist() == [1.0, 1.0]
    assert charts(test) == 2
    assert "has no report" in said(test)
    (run.path / "report.html").write_text("<p>found</p>")
    test = page("runs", **{f"report__{run.path.name}".replace("-", "__"): True})
    assert labelled(test.get("download_button"), "Download")


def test_an_explanation_is_shown_when_its_job_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_run(tmp_path / "runs", "mine", {}, "").update(status="done")
    told = {"pnl": {"asset": {"NVDA": 0.3, "META": -0.1}}, "importance": {"shap": {"momentum_10": 0.7}}}
    finished("explain", 0, "done", {"run": "mine", "folder": "runs/mine/explain", "strategies": {"a": told}})
    test = page("runs")
    assert charts(test) == 2
    assert "by shap" in said(test)


def test_records_and_models_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLIOCAST_TRACK", raising=False)
    assert "Nothing is tracked yet" in said(turn(page("runs"), "runs-view", "Records"))
    part = Record("mine.a", "a", metrics={"sharpe": 1.25})
    tracker(str(tmp_path / "kept")).record(Record("mine", "mine", tags={"data": "sample"}, parts=(part,)))
    monkeypatch.setenv("FOLIOCAST_TRACK", str(tmp_path / "kept"))
    test = turn(page("runs"), "runs-view", "Records")
    assert test.dataframe[0].value["Sharpe"].tolist() == [1.25]
    turn(test, "runs-view", "Models")
    assert {"stocks", "default"} <= set(test.dataframe[0].value["model"])
    assert "holds no models yet" in said(test)


def test_live_without_a_feed_says_so() -> None:
    assert "No feed is running" in said(page("live"))
