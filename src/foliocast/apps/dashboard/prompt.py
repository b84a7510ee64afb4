"""Prompt to portfolio: describe a fund in words, watch its holdings come out of noise, and hold it as a book."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.shared import KEEP, chosen_data, hold, panel, row, told
from foliocast.core.errors import ConfigError

EXAMPLES = (
    "Buffett, Closed-End Fund, Thematic, Value, Large-Cap, Sep 2023",
    "growth, technology=40%, 25 names, Jun 2022",
    "dividend, value, large-cap, 40 names",
    "health care, small-cap, concentrated",
)
VIEWS = ("Holdings", "Out of noise", "What moved it", "Nearest real funds")
Asked = tuple[str, int, int, tuple[Any, ...]]


def page() -> None:
    """Prompt and limits above; the funds below."""
    st.title("Prompt to portfolio")
    st.markdown(
        "Describe a fund. A diffusion model that has read thousands of filings draws the holdings it might have."
    )
    st.session_state.setdefault("prompt", EXAMPLES[0])
    with st.form("prompt-form", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input("Prompt", key="prompt", max_chars=400, persist_state=KEEP)
            st.form_submit_button("Generate", type="primary", icon=":material/auto_awesome:")
        with st.expander("Limits and manner"):
            manner = _manner()
    st.pills("Examples", EXAMPLES, key="example", on_change=_take_example, label_visibility="collapsed")
    prompt = str(st.session_state["prompt"] or "").strip()
    if not prompt:
        st.info("Say something of the fund: a manager, a style, a size, a theme, a date.", icon=":material/info:")
        return
    n, seed, options = manner
    with told():
        _show((prompt, n, seed, options))


def _take_example() -> None:
    if st.session_state.get("example"):
        st.session_state["prompt"] = st.session_state["example"]


def _manner() -> tuple[int, int, tuple[Any, ...]]:
    source = chosen_data()
    with row():
        n = st.slider("Samples", 1, 12, 4, key="samples", persist_state=KEEP, width=165)
        largest = st.slider("Largest weight, %", 2, 100, 100, key="prompt-largest", persist_state=KEEP, width=165)
        names = st.number_input(
            "Names (0: as the prompt says)", 0, 200, 0, key="prompt-names", persist_state=KEEP, width=220
        )
        diversity = st.slider("Diversity", 0.0, 1.0, 0.5, 0.1, key="diversity", persist_state=KEEP, width=165)
        guidance = st.slider("Guidance", 0.0, 3.0, 1.0, 0.25, key="guidance", persist_state=KEEP, width=165)
        exclude = st.text_input("Exclude tickers", key="exclude", persist_state=KEEP, width=200)
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="prompt-seed", persist_state=KEEP, width=120)
        mine = st.toggle("Only names in my data", key="prompt-mine", persist_state=KEEP)
    universe = panel(source).assets if mine else None
    out = tuple(t.strip().upper() for t in exclude.replace(";", ",").split(",") if t.strip())
    return n, int(seed), (largest / 100, int(names) or None, diversity, guidance, out, universe)


@st.cache_resource(show_spinner="Opening the generator ...")
def _generator() -> Any:
    from foliocast.workflows.generate import load_generator

    return load_generator()


def _options(chosen: tuple[Any, ...]) -> Any:
    from foliocast.workflows.generate import GenerateOptions

    largest, names, diversity, guidance, exclude, mine = chosen
    known = set(_generator().securities_.tickers)
    universe = None if mine is None else tuple(a for a in mine if a in known)
    if mine is not None and not universe:
        raise ConfigError("the generator knows none of the names in the data in hand; choose other data")
    return GenerateOptions(
        max_weight=None if largest == 1.0 else largest,
        n_holdings=names,
        diversity=diversity,
        guidance=guidance,
        exclude=exclude,
        universe=universe,
    )


@st.cache_resource(show_spinner="Drawing portfolios ...", max_entries=32)
def _drawn(asked: Asked) -> Any:
    from foliocast.workflows.generate import draw

    prompt, n, seed, options = asked
    return draw(_generator(), prompt, n, seed, _options(options))


def _show(asked: Asked) -> None:
    weights, path = _drawn(asked)
    _understood(weights)
    sample = int(
        st.pills(
            "Sample",
            list(weights.index),
            default=weights.index[0],
            required=True,
            format_func=lambda i: f"Sample {int(i) + 1}",
            key=f"sample-{len(weights)}",
        )
        or 0
    )
    tabs = st.tabs(list(VIEWS), key="prompt-view", on_change="rerun")
    for view, tab in zip(VIEWS, tabs):
        if not tab.open:
            continue
        with tab, told():
            if view == "Holdings":
                _holdings(weights, sample, asked[0])
            elif view == "Out of noise":
                _noise(path, sample)
            elif view == "What moved it":
                _moved(asked, weights)
            else:
                _nearest(weights)


def _understood(weights: pd.DataFrame) -> None:
    said = weights.attrs
    words = " ".join(f":blue-badge[{key}: {value}]" for key, value in said["prompt"].items())
    st.markdown(f"{words} :gray-badge[date: {said['date']}]")
    if said["unknown"]:
        st.warning(f"Not understood, and left out: {', '.join(map(str, said['unknown']))}.", icon=":material/help:")
    from foliocast.workflows.generate import started

    seen = f"The model has seen filings up to {said['knowledge_until']}; a backtest refuses its books before that."
    past = started({str(key): value for key, value in said.items()})
    st.caption(f"{past} {seen}".strip())


def _holdings(weights: pd.DataFrame, sample: int, prompt: str) -> None:
    book: pd.Series = weights.T[sample]
    book = book[book > 0].sort_values(ascending=False)
    with row("top"):
        st.metric("Names", str(len(book)), width=110)
        st.metric("Effective names", f"{1 / float((book**2).sum()):.1f}", width=150)
        st.metric("Largest", f"{book.index[0]} {book.iloc[0]:.0%}", width=170)
    figures.show(figures.bars(book.head(20), "weight"), "Largest holdings", key="holdings")
    known = [a for a in book.index if a in panel(chosen_data()).assets]
    st.caption(
        f"{len(known)} of these names ({book[known].sum():.0%}) are in the data in hand; the others cannot be stressed "
        "on them."
    )
    with row():
        if st.button("Use as book", type="primary", icon=":material/check:"):
            hold(book, f"“{prompt[:40]}”")
            st.toast("This is the book in hand now: see Portfolio and Stress.", icon=":material/check:")
        csv = book.rename("weight").rename_axis("asset").to_csv()
        st.download_button("Download CSV", csv, "book.csv", "text/csv", icon=":material/download:", on_click="ignore")
    with st.expander("All samples"):
        table = weights.T.rename(columns=lambda i: f"sample {int(i) + 1}")
        st.dataframe(table, column_config=dict.fromkeys(table.columns, st.column_config.NumberColumn(format="percent")))


def _noise(path: Any, sample: int) -> None:
    table = path.frame(sample)
    st.markdown("What the denoiser believed at each noise level, from nothing but noise to the fund. Press Play.")
    figures.show(figures.denoising(table), "Animation of the holdings coming out of noise", key=f"denoising-{sample}")
    st.markdown("**The same as a strip**")
    figures.show(figures.strip(table), "Holdings by falling noise level", key=f"strip-{sample}")


@st.cache_data(show_spinner="Drawing again without each part ...", max_entries=32)
def _influence(asked: Asked) -> pd.DataFrame:
    from foliocast.workflows.generate import influence

    prompt, _, seed, options = asked
    return influence(_generator(), prompt, _drawn(asked)[0], seed, _options(options))


def _moved(asked: Asked, weights: pd.DataFrame) -> None:
    table = _influence(asked)
    if table.empty:
        st.info("The prompt says nothing whose part could be taken away.", icon=":material/info:")
        return
    st.markdown("Mean weight with the whole prompt less that without this part of it, from the same noise.")
    figures.show(figures.influence(table), "What each part of the prompt moved", key="influence")


@st.cache_resource(show_spinner="Opening the corpus ...", max_entries=2)
def _corpus(name: str) -> Any:
    from foliocast.workflows.generate import load_corpus

    return load_corpus(name)


def _nearest(weights: pd.DataFrame) -> None:
    from foliocast.workflows.generate import corpora, nearest_funds

    found = corpora()
    if not found:
        st.info(
            "Real funds are not part of the package, only what the model learnt from them. Build a corpus from SEC "
            "filings or your own tables (see the guide on generating portfolios) and save it in the folder `corpora` "
            "of Foliocast's home; the funds nearest to each sample are then listed here.",
            icon=":material/info:",
        )
        return
    name = str(st.selectbox("Corpus", list(found), key="corpus", persist_state=KEEP, width=240))
    with st.spinner("Comparing ..."):
        table = nearest_funds(weights, _corpus(name))
    table["sample"] += 1
    st.dataframe(table, hide_index=True, column_config={"overlap": st.column_config.NumberColumn(format="percent")})
    st.caption("Overlap: the share of the book that the real fund held, too. A copy would show 100 %.")
