"""Scenarios: joint futures of chosen assets, what an event does to them, and how far a model can be trusted."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.jobs import job_cards, submit
from foliocast.apps.dashboard.shared import (
    KEEP,
    MODEL_NAMES,
    choose_model,
    chosen_data,
    head,
    panel,
    percent,
    row,
    scenarios,
    told,
)
from foliocast.core.belief import ScenarioSet
from foliocast.core.panel import Panel

VIEWS = ("Fan", "Joint", "Correlation", "Table", "Fill in", "Scorecard")
Given = tuple[tuple[str, float], ...]


def page() -> None:
    """Model, assets and event above; views of what follows below."""
    found = head("Scenarios", "Many joint futures instead of one line. Fix what you fear, and see what comes with it.")
    source = chosen_data()
    assets, model, horizon, n, seed = _choose(found, source)
    if not assets:
        st.info("Choose at least one asset.", icon=":material/info:")
        return
    given = _event(source, assets, horizon)
    tabs = st.tabs(list(VIEWS), key="scenario-view", on_change="rerun")
    for name, tab in zip(VIEWS, tabs):
        if not tab.open:
            continue
        with tab, told():
            if name == "Fill in":
                _infill(source, assets, model)
            elif name == "Scorecard":
                _scorecard(source, model)
            else:
                drawn = scenarios(source, model, assets, horizon, n, given, seed)
                _summary(drawn, given)
                {"Fan": _fan, "Joint": _joint, "Correlation": _correlation, "Table": _table}[name](found, drawn, given)


def _choose(found: Panel, source: str) -> tuple[tuple[str, ...], str, int, int, int]:
    with row():
        model = choose_model("scenario-model")
        horizon = st.slider("Bars ahead", 1, 60, 10, key="scenario-horizon", persist_state=KEEP, width=165)
        n = st.select_slider(
            "Scenarios", [250, 500, 1000, 2000, 5000], 1000, key="scenario-n", persist_state=KEEP, width=165
        )
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="scenario-seed", persist_state=KEEP, width=120)
    assets = st.multiselect(
        "Assets",
        found.assets,
        default=list(found.assets[:6]),
        key=f"scenario-assets-{source}",
        persist_state=KEEP,
        max_selections=40,
    )
    return tuple(assets), model, horizon, int(n), int(seed)


def _event(source: str, assets: tuple[str, ...], horizon: int) -> Given:
    """What is fixed of the future: nothing, or one asset's return over the horizon."""
    with row():
        first = "NVDA" if "NVDA" in assets else assets[0]
        fixed = st.toggle("Fix an event", key="event-on", persist_state=KEEP)
        if not fixed:
            return ()
        key = f"event-asset-{source}-{len(assets)}"
        asset = st.selectbox("What if", assets, index=assets.index(first), key=key, persist_state=KEEP, width=140)
        move = st.slider(
            f"returns over {horizon} bars, %", -60, 60, -20, key="event-move", persist_state=KEEP, width=260
        )
    return ((str(asset), move / 100),)


def _summary(drawn: ScenarioSet, given: Given) -> None:
    asked = "Nothing fixed"
    if given:
        asset, move = given[0]
        asked = f"**Given {asset} {percent(move, 0)}**, met in every scenario"
    known = "" if drawn.knowledge_until is None else f" The model has seen data up to {drawn.knowledge_until:%d %b %Y}."
    st.markdown(f"{asked}: {drawn.n_scenarios:,} joint paths of {drawn.horizon} bars.{known}")


def _fan(found: Panel, drawn: ScenarioSet, given: Given) -> None:
    from foliocast.workflows.scenario_tables import fan

    others = [a for a in drawn.assets if a not in dict(given)] or list(drawn.assets)
    asset = str(st.pills("Asset", others, default=others[0], key=f"fan-{'-'.join(others)}", required=True))
    past = found.close()[asset].dropna().iloc[-60:]
    table = fan(drawn, pd.Series({asset: 1.0}), float(past.iloc[-1]))
    alt = f"Fan of {asset} over {drawn.horizon} bars: median and bands of 50, 80 and 95 percent"
    figures.show(figures.fan(table, asset, past), alt, key="fan")


def _joint(found: Panel, drawn: ScenarioSet, given: Given) -> None:
    from foliocast.workflows.scenario_tables import history_totals

    if len(drawn.assets) < 2:
        st.info("Choose two assets or more to see how they move together.", icon=":material/info:")
        return
    fixed = dict(given)
    names = [a for a in drawn.assets if a not in fixed] + list(fixed)
    with row():
        a = str(st.selectbox("Across", names, key=f"joint-a-{'-'.join(names)}", width=140))
        rest = [n for n in names if n != a]
        b = str(st.selectbox("Up", rest, key=f"joint-b-{'-'.join(rest)}", width=140))
    past = history_totals(found, [a, b], drawn.horizon)
    figures.show(figures.joint(drawn.to_frame(), past, a, b), f"Joint returns of {a} and {b}", key="joint")
    st.caption(
        f"Returns over {drawn.horizon} bars. History: every stretch of that length in the last five years; "
        "stretches overlap, so neighbouring points are not independent."
    )


def _correlation(found: Panel, drawn: ScenarioSet, given: Given) -> None:
    from foliocast.workflows.scenario_tables import correlations

    if len(drawn.assets) < 2:
        st.info("Choose two assets or more to see how they move together.", icon=":material/info:")
        return
    made, past = correlations(drawn, found)
    left, right = st.columns(2)
    for column, title, table in ((left, "In the scenarios", made), (right, "In the last five years", past)):
        with column:
            st.markdown(f"**{title}**")
            figures.show(figures.correlation(table), f"Correlation of returns: {title}", key=f"corr-{title}")
    gap = float((made - past).abs().to_numpy().max())
    st.caption(
        f"Correlation of returns per bar; the largest difference is {gap:.2f}. Models that follow recent markets are "
        "meant to differ from the five-year average; an event fixed above changes it, too."
    )


def _table(found: Panel, drawn: ScenarioSet, given: Given) -> None:
    from foliocast.workflows.simulate import summary

    told_of = summary(drawn, dict(given) or None)
    rows = {
        asset: {
            "mean": values["mean"],
            "deviation": values["standard_deviation"],
            **{f"{float(q) * 100:g} %": value for q, value in values["quantiles"].items()},
            "P(loss)": values["probability_of_loss"],
        }
        for asset, values in told_of["assets"].items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(table, column_config=dict.fromkeys(table.columns, share))
    st.download_button(
        "Download scenarios (CSV)",
        lambda: drawn.to_frame().to_csv(index_label="scenario"),
        "scenarios.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )
    for asset, check in told_of.get("given", {}).items():
        st.caption(f"{asset}: asked {percent(check['asked'])}, largest miss {check['largest_miss']:.1e}.")


def _infill(source: str, assets: tuple[str, ...], model: str) -> None:
    st.markdown(
        "Hide one asset over the last weeks of the data, show the model what the others did, and let it draw what is "
        "hidden. The model is fitted on what came before."
    )
    if len(assets) < 2:
        st.info("Choose two assets or more: one is hidden, the others are shown.", icon=":material/info:")
        return
    with row():
        first = assets.index("NVDA") if "NVDA" in assets else 0
        hidden = str(st.selectbox("Hide", assets, index=first, key=f"infill-{source}-{len(assets)}", width=140))
        horizon = st.slider("Bars hidden", 5, 60, 20, key="infill-bars", persist_state=KEEP, width=165)
    shown = tuple(a for a in assets if a != hidden)
    found = _filled(source, hidden, shown, model, horizon)
    figures.show(figures.infilled(found), f"{hidden}, hidden and filled in from {', '.join(shown)}", key="infill")
    gain = 1.0 - found.crps_told / found.crps_free
    st.markdown(
        f"{hidden} stayed inside the 80 % band on **{found.inside:.0%}** of days. Error of the whole distribution "
        f"(CRPS): **{found.crps_told:.2%}** with the others shown, {found.crps_free:.2%} with nothing shown "
        f"({gain:+.0%} better). One stretch is an illustration; the scorecard is the evidence."
    )


@st.cache_resource(show_spinner="Filling in ...", max_entries=32)
def _filled(source: str, hidden: str, shown: tuple[str, ...], model: str, horizon: int) -> object:
    from foliocast.workflows.scenario_tables import infill

    return infill(panel(source), hidden, shown, model, horizon)


def _scorecard(source: str, model: str) -> None:
    name = MODEL_NAMES.get(model, model)
    st.markdown(
        f"Walk-forward, out of sample: **{name}** beside the classical models, refitted each year, judged by what "
        "came. It runs as a job; you can leave this page."
    )
    if st.button("Score", type="primary", icon=":material/play_arrow:"):
        with told():
            submit("simulate", ["--score", "--model", model, "--data", source])
    job_cards("simulate", _card)


def _card(result: dict) -> None:
    rows = result.get("scorecard", [])
    if not rows:
        st.info("The job has left no scorecard.", icon=":material/info:")
        return
    table = pd.DataFrame(rows).set_index("model")
    table.index = [MODEL_NAMES.get(str(n), str(n)) for n in table.index]
    keep = [
        "energy_1",
        "p_energy_1",
        "energy_20",
        "p_energy_20",
        "crps_1",
        "variogram_1",
        "cover_1",
        "cover_20",
        "kupiec_1",
        "origins",
    ]
    st.dataframe(table[[c for c in keep if c in table]].round(4))
    st.caption(
        "Energy, CRPS, variogram: lower is better. p: Diebold-Mariano against FHS with GJR-GARCH. cover: share inside "
        "90 % intervals. kupiec: p-value of the rate of 5 % VaR breaches."
    )
