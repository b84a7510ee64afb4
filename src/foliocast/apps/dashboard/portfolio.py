"""Portfolio: build a book or upload one, ask for a better one under limits, and hold them side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.shared import (
    KEEP,
    choose_model,
    chosen_data,
    head,
    hold,
    in_hand,
    lost,
    percent,
    row,
    scenarios,
    told,
)
from foliocast.core.belief import ScenarioSet
from foliocast.core.panel import Panel

OBJECTIVES = {
    "min_risk": "Least risk",
    "max_utility": "Return less risk",
    "max_return": "Most return",
    "max_growth": "Most growth, fully invested",
    "kelly": "Kelly, cash allowed",
}
RISKS = {
    "cvar": "CVaR",
    "volatility": "Volatility",
    "semivariance": "Semivariance",
    "evar": "EVaR",
    "max_loss": "Largest loss",
}
VIEWS = ("Proposal", "Frontier", "Kelly", "Risk", "Present book")
MEASURES = {
    "mean": "expected return",
    "volatility": "volatility",
    "var": "VaR",
    "cvar": "CVaR",
    "probability_of_loss": "chance of a loss",
    "worst": "worst scenario",
    "drawdown": "mean drawdown",
    "names": "names",
    "effective_names": "effective names",
    "largest": "largest weight",
    "cash": "cash",
    "turnover": "turnover",
}
EQUAL = "1/N of the universe"
RECENT_BARS = 1260.0  # five years: what Kelly's means are taken to rest on
COUNTS = ("names", "effective_names")


Belief = tuple[str, str, tuple[str, ...], int, int]


@dataclass(frozen=True)
class Ask:
    """What is asked of the optimiser, of which belief, beside which book."""

    belief: Belief
    assets: tuple[str, ...]
    taste: Any
    present: pd.Series
    name: str

    @property
    def drawn(self) -> ScenarioSet:
        return scenarios(*self.belief)

    def best(self, **other: Any) -> Any:
        """The proposal, for this taste or with parts of it changed."""
        return _best(self.belief, self.assets, replace(self.taste, **other), tuple(self.present.items()))


def page() -> None:
    """Present book, wishes, and what comes of them."""
    found = head(
        "Portfolio", "Build a book or bring yours, say what you want, and see what it would cost to get there."
    )
    source = chosen_data()
    assets = _universe(found, source)
    if len(assets) < 2:
        st.info("Choose two assets or more.", icon=":material/info:")
        return
    present, name = in_hand(found.assets)
    every = tuple(dict.fromkeys([*assets, *map(str, present.index)]))
    model, horizon, n = _belief()
    taste = _taste(len(assets))
    ask = Ask((source, model, every, horizon, n), assets, taste, present, name)
    tabs = st.tabs(list(VIEWS), key="portfolio-view", on_change="rerun")
    for view, tab in zip(VIEWS, tabs):
        if not tab.open:
            continue
        with tab, told():
            if view == "Present book":
                _build(found, present, name)
            else:
                show = {"Proposal": _proposal, "Frontier": _frontier, "Kelly": _kelly, "Risk": _risk}[view]
                show(ask)


def _universe(found: Panel, source: str) -> tuple[str, ...]:
    chosen = st.multiselect(
        "Assets that may be held",
        found.assets,
        list(found.assets[:20]),
        key=f"universe-{source}",
        persist_state=KEEP,
        max_selections=60,
    )
    return tuple(chosen)


def _belief() -> tuple[str, int, int]:
    with row():
        model = choose_model("portfolio-model")
        horizon = st.slider("Bars ahead", 1, 60, 20, key="portfolio-horizon", persist_state=KEEP, width=165)
        n = st.select_slider(
            "Scenarios", [500, 1000, 2000, 5000], 2000, key="portfolio-n", persist_state=KEEP, width=165
        )
    return model, horizon, int(n)


def _taste(count: int) -> Any:
    from foliocast.workflows.book import Taste

    with row():
        objective = str(_pick("Objective", OBJECTIVES, "objective", 240))
        risk = str(_pick("Risk", RISKS, "risk", 150))
        alpha = st.select_slider("Level", [0.9, 0.95, 0.975, 0.99], 0.95, key="alpha", persist_state=KEEP, width=165)
        aversion = 1.0
        if objective == "max_utility":
            aversion = st.slider("Risk aversion", 0.0, 5.0, 1.0, 0.1, key="aversion", persist_state=KEEP, width=165)
        bet = 0.5
        if objective == "kelly":
            bet = st.slider("Share of full Kelly", 0.1, 1.0, 0.5, 0.05, key="bet", persist_state=KEEP, width=165)
    with st.expander("Limits and costs"), row():
        largest = st.slider("Largest weight, %", 5, 100, 40, 5, key="largest", persist_state=KEEP, width=165)
        names = st.slider("Most names", 1, count, count, key=f"names-{count}", persist_state=KEEP, width=165)
        turnover = st.slider("Most turnover, %", 5, 200, 200, 5, key="turnover", persist_state=KEEP, width=165)
        short = st.slider("Short, %", 0, 100, 0, 5, key="short", persist_state=KEEP, width=165)
        cost = st.slider("Cost of a trade, bps", 0, 100, 5, key="cost", persist_state=KEEP, width=165)
    return Taste(
        objective,
        risk,
        float(alpha),
        aversion,
        largest / 100,
        None if names == count else names,
        None if turnover == 200 else turnover / 100,
        float(cost),
        short / 100,
        bet,
    )


def _pick(label: str, options: dict[str, str], key: str, width: int) -> str | None:
    return st.selectbox(label, list(options), key=key, format_func=options.get, persist_state=KEEP, width=width)


@st.cache_resource(show_spinner="Optimising ...", max_entries=64)
def _best(belief: Belief, assets: tuple[str, ...], taste: Any, present: tuple[tuple[str, float], ...]) -> Any:
    from foliocast.workflows.book import propose

    return propose(scenarios(*belief).select(assets), taste, pd.Series(dict(present), dtype=float))


def _equal(ask: Ask) -> pd.Series:
    return pd.Series(1.0 / len(ask.assets), index=list(ask.assets))


def _proposal(ask: Ask) -> None:
    from foliocast.workflows.book import trades

    found = ask.best()
    books = {"Proposal": found.weights, ask.name: ask.present}
    _metrics(ask, books)
    figures.show(figures.weights(books), "Weights of the proposal and of the present book", key="weights")
    _side_by_side(ask, {**books, EQUAL: _equal(ask)})
    change = trades(ask.present, found.weights)
    st.caption(
        f"Solved by {found.solver}; certified within {found.gap:.1e} of the best there is on these scenarios, which "
        f"are a belief ({ask.drawn.model}), not the future."
    )
    with st.expander(f"{len(change)} trades from {ask.name}"):
        table = pd.DataFrame({"trade": change, "side": np.where(change > 0, "buy", "sell")})
        st.dataframe(table, column_config={"trade": st.column_config.NumberColumn(format="percent")})
    with row():
        if st.button("Take this book", type="primary", icon=":material/check:", key="take-proposal"):
            hold(found.weights, f"{OBJECTIVES[ask.taste.objective]} book")
            st.rerun()
        csv = found.weights.rename("weight").rename_axis("asset").to_csv()
        st.download_button("Download CSV", csv, "book.csv", "text/csv", icon=":material/download:", on_click="ignore")


def _metrics(ask: Ask, books: dict[str, pd.Series]) -> None:
    from foliocast.workflows.book import compare

    table = compare(ask.drawn, books, ask.taste.alpha, ask.name)
    ours, theirs = table.iloc[0], table.iloc[1]
    with row("top"):
        for title, column, better in (
            ("Expected return", "mean", "normal"),
            (f"CVaR {ask.taste.alpha * 100:g} %", "cvar", "inverse"),
            ("Volatility", "volatility", "inverse"),
            ("Chance of a loss", "probability_of_loss", "inverse"),
        ):
            gap = f"{ours[column] - theirs[column]:+.2%}"
            st.metric(title, f"{ours[column]:.2%}", gap, delta_color=better, width=160)
        st.metric("Turnover", f"{ours['turnover']:.0%}", width=110)
    st.caption(f"Over {ask.drawn.horizon} bars; arrows are against {ask.name}.")


def _side_by_side(ask: Ask, books: dict[str, pd.Series]) -> None:
    from foliocast.workflows.book import compare

    table = compare(ask.drawn, books, ask.taste.alpha, ask.name)
    shown = {
        title: [f"{v:.1f}" if column in COUNTS else f"{v:.1%}" for v in table[column]]
        for column, title in MEASURES.items()
    }
    st.dataframe(pd.DataFrame(shown, index=table.index).T.rename_axis("over the horizon"), height=460)


@st.cache_resource(show_spinner="Walking the frontier ...", max_entries=32)
def _line(belief: Belief, assets: tuple[str, ...], taste: Any, present: tuple[tuple[str, float], ...]) -> pd.DataFrame:
    from foliocast.workflows.book import frontier

    return frontier(scenarios(*belief).select(assets), taste, pd.Series(dict(present), dtype=float))


def _frontier(ask: Ask) -> None:
    from foliocast.workflows.book import place

    line = _line(ask.belief, ask.assets, ask.taste, tuple(ask.present.items()))
    books = {"Proposal": ask.best().weights, ask.name: ask.present, EQUAL: _equal(ask)}
    points = {title: place(ask.drawn, book, ask.taste) for title, book in books.items()}
    title = f"{RISKS[ask.taste.risk]} over {ask.drawn.horizon} bars"
    figures.show(
        figures.frontier(line, points, title), "Efficient frontier with the books on it and below it", key="line"
    )
    st.caption(
        "Under the same limits (without the number of names and costs). Expected returns are the weakest part of any "
        "belief."
    )
    table = line.set_index(["risk", "expected_return"])
    held = table.loc[:, (table.abs() > 0.005).any()]
    with st.expander("Weights along the frontier"):
        share = st.column_config.NumberColumn(format="percent")
        flat = held.reset_index()
        st.dataframe(flat, hide_index=True, column_config=dict.fromkeys(flat.columns, share))


def _kelly(ask: Ask) -> None:
    from foliocast.workflows.book import growth_curve

    full = ask.best(objective="kelly", kelly_fraction=1.0)
    humble = ask.best(objective="kelly", kelly_fraction=1.0, observations=RECENT_BARS)
    st.markdown(
        "Kelly bets for the fastest growth on the joint scenarios, cash allowed. Half of the bet gives up a quarter of "
        "the growth for half of the swings; and what five years cannot tell about the mean calls for less again."
    )
    with row("top"):
        st.metric("Full Kelly, invested", f"{full.weights.sum():.0%}", width=180)
        st.metric("Half Kelly", f"{full.weights.sum() / 2:.0%}", width=120)
        st.metric(
            "Shrunk for ignorance",
            f"{humble.weights.sum():.0%}",
            f"times {humble.shrinkage:.2f}",
            delta_color="off",
            width=190,
        )
    if full.weights.abs().sum() < 1e-9:
        st.info("On these scenarios the best bet is none: hold cash.", icon=":material/info:")
        return
    left, right = st.columns(2)
    with left:
        figures.show(
            figures.growth(growth_curve(ask.drawn, full.weights)),
            "Expected log growth against the size of the bet",
            key="growth",
        )
    with right:
        books = {"Full": full.weights, "Half": full.weights / 2, "Shrunk": humble.weights}
        figures.show(figures.weights(books), "Weights of Kelly bets", key="kelly-weights")
    if st.button("Take half Kelly", type="primary", icon=":material/check:"):
        hold(full.weights / 2, "Half Kelly")
        st.rerun()


def _risk(ask: Ask) -> None:
    from foliocast.workflows.book import risk_shares

    ours = ask.best().weights
    for title, book in (("Proposal", ours), (ask.name, ask.present)):
        st.markdown(f"**{title}**")
        shares = risk_shares(ask.drawn, book, ask.taste.alpha).sort_values("share_cvar", ascending=False)
        figures.show(figures.shares(shares), f"Who carries the risk of {title}", key=f"shares-{title}")
    alike = {"Proposal": ask.drawn.portfolio(ours), ask.name: ask.drawn.portfolio(ask.present)}
    figures.show(figures.distribution(alike), "Distribution of the return of both books", key="both")


def _build(found: Panel, present: pd.Series, name: str) -> None:
    missing = lost(found.assets)
    if len(missing):
        st.warning(
            f"{len(missing)} names of {name} are not in these data and count as cash: "
            f"{', '.join(map(str, missing.index[:8]))}.",
            icon=":material/warning:",
        )
    left, right = st.columns([3, 2])
    with left:
        _by_hand(found, present, name)
    with right:
        st.markdown("**Or bring a file**")
        file = st.file_uploader("CSV with the columns asset and weight", type=["csv"], key="book-file")
        if file is not None and st.button("Use this file", icon=":material/upload:"):
            from foliocast.workflows.book import read_book

            with told():
                hold(read_book(file), file.name)
                st.rerun()
        if st.button("Equal weight of all assets", icon=":material/balance:"):
            hold(pd.Series(1.0 / len(found.assets), index=list(found.assets)), "Equal weight")
            st.rerun()


def _by_hand(found: Panel, present: pd.Series, name: str) -> None:
    st.markdown(f"**{name}**, by hand")
    start = pd.DataFrame({"asset": list(present.index), "weight": (present.to_numpy() * 100).round(2)})
    edited = st.data_editor(
        start,
        num_rows="dynamic",
        hide_index=True,
        key=f"editor-{name}-{hash(tuple(present.items()))}",
        column_config={
            "asset": st.column_config.SelectboxColumn("asset", options=list(found.assets), required=True),
            "weight": st.column_config.NumberColumn(
                "weight, %", min_value=-100, max_value=200, format="%.2f", required=True
            ),
        },
    )
    whole = edited.dropna()
    total = float(whole["weight"].sum())
    st.caption(f"Adds up to {total:.1f} %; the rest, {100 - total:.1f} %, is cash.")
    twice = whole["asset"][whole["asset"].duplicated()]
    if len(twice):
        st.error(f"{twice.iloc[0]} is there twice; add the lines up.", icon=":material/error:")
    elif st.button("Use this book", type="primary", icon=":material/check:", disabled=whole.empty):
        hold(pd.Series(whole["weight"].to_numpy() / 100, index=whole["asset"].to_numpy()), "Book by hand")
        st.rerun()
    st.caption(f"Gross {percent(present.abs().sum(), 0)} in {len(present)} names.")
