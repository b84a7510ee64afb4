"""Stress: what the book in hand lost in the past, loses in an event, and what would break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.shared import (
    KEEP,
    MODEL_NAMES,
    chosen_data,
    head,
    in_hand,
    lost,
    panel,
    percent,
    row,
    scenarios,
    told,
)
from foliocast.core.panel import Panel

VIEWS = ("Episodes", "Event", "Factor shock", "Reverse", "Who carries the risk", "Correlations")


def page() -> None:
    """The book and the event above; one view a question below."""
    found = head("Stress", "What the book in hand would lose, when, and why. The past, an event, a factor, the worst.")
    source = chosen_data()
    weights, name = in_hand(found.assets)
    _book(weights, name, lost(found.assets))
    spec = _choose(found, source)
    with st.spinner("Stressing ..."):
        report = _report(source, tuple(weights.items()), spec)
    _headline(report)
    tabs = st.tabs(list(VIEWS), key="stress-view", on_change="rerun")
    views = (_episodes, _event, _factor, _reverse, _components, _correlation)
    for tab, view in zip(tabs, views):
        if tab.open:
            with tab, told():
                view(report, source)


def _book(weights: pd.Series, name: str, missing: pd.Series) -> None:
    held = ", ".join(f"{a} {w:.0%}" for a, w in weights.sort_values(ascending=False).head(8).items())
    more = "" if len(weights) <= 8 else f" and {len(weights) - 8} more"
    cash = 1.0 - weights.sum()
    st.markdown(f"**{name}**: {held}{more}" + (f", cash {cash:.0%}" if cash > 0.005 else ""))
    if len(missing):
        st.warning(
            f"{len(missing)} names of the book ({missing.sum():.0%} of it) are not in these data and count as cash: "
            f"{', '.join(map(str, missing.index[:6]))}.",
            icon=":material/warning:",
        )


Spec = tuple[tuple[str, ...], int, int, str, float, str, float, float, float]


def _choose(found: Panel, source: str) -> Spec:
    models = st.multiselect(
        "Models, side by side",
        list(MODEL_NAMES),
        ["fhs", "t-copula", "bootstrap"],
        key="stress-models",
        format_func=lambda n: MODEL_NAMES[n],
        persist_state=KEEP,
    )
    with row():
        horizon = st.slider("Bars ahead", 1, 60, 10, key="stress-horizon", persist_state=KEEP, width=165)
        level = st.select_slider(
            "Level", [0.9, 0.95, 0.975, 0.99], 0.95, key="stress-level", persist_state=KEEP, width=160
        )
    with row():
        first = found.assets.index("NVDA") if "NVDA" in found.assets else 0
        asset = str(
            st.selectbox(
                "Event: what if", found.assets, first, key=f"stress-asset-{source}", persist_state=KEEP, width=150
            )
        )
        move = st.slider("returns, %", -60, 60, -20, key="stress-move", persist_state=KEEP, width=165)
        factor = str(
            st.selectbox("Factor shock", found.assets, 0, key=f"stress-factor-{source}", persist_state=KEEP, width=150)
        )
        shock = st.slider("moves, %", -40, 40, -10, key="stress-shock", persist_state=KEEP, width=165)
        loss = st.slider("Reverse: lose, %", 1, 50, 10, key="stress-loss", persist_state=KEEP, width=165)
    return tuple(models) or ("fhs",), horizon, 2000, asset, move / 100, factor, shock / 100, loss / 100, float(level)


@st.cache_resource(show_spinner=False, max_entries=32)
def _report(source: str, weights: tuple[tuple[str, float], ...], spec: Spec) -> Any:
    from foliocast.workflows.stress import StressSpec, stress

    models, horizon, n, asset, move, factor, shock, loss, level = spec
    wanted = StressSpec(
        models=models,
        horizon=horizon,
        n=n,
        given={asset: move} if move else None,
        factors={factor: shock} if shock else None,
        loss=loss,
        level=level,
    )
    return stress(panel(source), dict(weights), wanted)


def _headline(report: Any) -> None:
    first = report.spec.models[0]
    free = report.outlooks[(first, "none")]
    told_of = report.outlooks.get((first, "given"))
    with row("top"):
        st.metric(f"VaR {report.spec.level * 100:g} %", percent(-free.var), width=130)
        st.metric(f"CVaR {report.spec.level * 100:g} %", percent(-free.cvar), width=130)
        st.metric("Worst of 2,000", percent(free.worst), width=140)
        st.metric("Chance of a loss", f"{free.probability_of_loss:.0%}", width=140)
        if told_of is not None:
            (asset, move), *_ = report.spec.given.items()
            st.metric(f"Mean given {asset} {percent(move, 0)}", percent(told_of.mean), width=210)
    st.caption(
        f"Over {report.spec.horizon} bars from {str(report.as_of)[:10]}, bought now and held; "
        f"{MODEL_NAMES.get(first, first)}."
    )


def _episodes(report: Any, source: str) -> None:
    table = report.historical
    covered = table[table["bars"] > 0]
    if covered.empty:
        st.info("These data reach back to none of the known episodes.", icon=":material/info:")
        return
    figures.show(
        figures.bars(covered["return"], "return of the book"), "Return of the book in past episodes", key="episodes"
    )
    share = st.column_config.NumberColumn(format="percent")
    config = dict.fromkeys(("return", "max_drawdown", "worst_bar", "covered"), share)
    st.dataframe(covered.drop(columns="missing"), column_config=config)
    absent = table.index[table["bars"] == 0]
    if len(absent):
        st.caption(f"Outside these data: {', '.join(absent)}.")


def _pick(models: list[str], part: str) -> str:
    """The model whose answer is shown; one widget for each set of models, or a choice would outlive its option."""
    chosen = st.pills(
        "Model",
        models,
        default=models[0],
        format_func=MODEL_NAMES.get,
        required=True,
        key=f"{part}-{'-'.join(models)}",
    )
    return str(chosen)


def _event(report: Any, source: str) -> None:
    if not report.event:
        st.info("The event is zero: move its slider.", icon=":material/info:")
        return
    model = _pick(list(report.event), "event")
    table = report.event[model]
    figures.show(
        figures.bars(table["mean"], "mean return given the event", table["q05"], table["q95"]),
        "Mean returns given the event with 5 to 95 percent ranges",
        key="event",
    )
    st.caption("Lines reach from the 5 % to the 95 % quantile.")
    share = st.column_config.NumberColumn(format="percent")
    st.markdown("**The book, with and without the event, by model**")
    flat = report.table().reset_index()[["model", "event", "mean", "var", "cvar", "worst", "probability_of_loss"]]
    flat["model"] = [MODEL_NAMES.get(m, m) for m in flat["model"]]
    st.dataframe(flat, hide_index=True, column_config=dict.fromkeys(flat.columns[2:], share))


def _factor(report: Any, source: str) -> None:
    found = report.factor
    if found is None:
        st.info("The factor shock is zero: move its slider.", icon=":material/info:")
        return
    (name, move), *_ = report.spec.factors.items()
    st.markdown(
        f"If **{name}** moves {percent(move, 0)}, regression betas carry **{percent(found.portfolio)}** to the book "
        f"({found.level:.0%} interval {percent(found.low)} to {percent(found.high)})."
    )
    table = found.assets.sort_values("response")
    figures.show(
        figures.bars(table["response"], "response", table["low"], table["high"]), f"Responses to {name}", key="factor"
    )
    st.caption(
        "Betas on the last ten years of daily returns; the interval is of the beta, not of what else may happen."
    )


def _reverse(report: Any, source: str) -> None:
    model = _pick(list(report.reverse), "reverse")
    found = report.reverse[model]
    st.markdown(
        f"The likeliest way to lose **{found.loss:.0%}** in {report.spec.horizon} bars lies {found.distance:.1f} "
        f"standard deviations out; {found.probability:.1%} of the scenarios lose as much or more."
    )
    figures.show(
        figures.bars(found.scenario.sort_values(), "return in that scenario"),
        "Returns in the scenario that breaks the book",
        key="reverse",
    )
    if len(found.nearest):
        st.markdown("**Scenarios of the set that do it, the likeliest first**")
        columns = [c for c in found.nearest.columns if c != "distance"]
        share = st.column_config.NumberColumn(format="percent")
        st.dataframe(found.nearest, hide_index=True, column_config=dict.fromkeys(columns, share))
    else:
        st.info("No scenario of this set loses as much.", icon=":material/info:")


def _components(report: Any, source: str) -> None:
    from foliocast.workflows.book import risk_shares

    weights, spec = report.weights, report.spec
    model = str(
        st.pills(
            "Model",
            list(report.components),
            default=spec.models[0],
            format_func=MODEL_NAMES.get,
            required=True,
            key=f"parts-{'-'.join(spec.models)}",
        )
    )
    drawn = scenarios(source, model, tuple(str(a) for a in weights.index), spec.horizon, spec.n)
    table = risk_shares(drawn, weights, spec.level).sort_values("share_cvar", ascending=False)
    figures.show(figures.shares(table), "Shares of weight, volatility and CVaR by asset", key="parts")
    st.caption(f"Component CVaR at {spec.level * 100:g} % adds up exactly to the CVaR of the book (Euler allocation).")
    returns = {"return of the book": np.asarray(drawn.portfolio(weights))}
    loss = {"VaR": -report.outlooks[(model, "none")].var}
    figures.show(figures.distribution(returns, loss), "Distribution of the return of the book", key="pnl")


def _correlation(report: Any, source: str) -> None:
    table = report.correlation
    st.markdown("Each asset keeps its own risk; only how they move together changes.")
    figures.show(
        figures.bars(-table["cvar"], f"CVaR {report.spec.level * 100:g} % as all correlations go to one level"),
        "CVaR as correlations change",
        key="breakdown",
    )
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(table, column_config=dict.fromkeys(table.columns, share))
