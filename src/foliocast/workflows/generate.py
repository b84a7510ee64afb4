"""The verb ``generate``: portfolios from a prompt, how they came out of noise, and which words moved them."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from foliocast.core.errors import ConfigError, DataError, LookAheadError
from foliocast.data import load_panel
from foliocast.data.funds import FundCorpus, canonical_ticker
from foliocast.features.funds import MARKET, Prompt, market_tags, read_date
from foliocast.models.funds.generator import FundGenerator
from foliocast.models.funds.requests import Trajectory
from foliocast.models.funds.text import sentence_encoder, understand
from foliocast.portfolio.fixed import read_book
from foliocast.runtime.home import home

FRAMES, BARS = 8, 14


@dataclass(frozen=True)
class GenerateOptions:
    """Limits and manner of a generation; see `FundGenerator.generate`.

    Parameters
    ----------
    model : str
        ``"default"`` or the folder of a saved generator.
    corpus : str or None
        Folder of a saved `FundCorpus`, for the table of the nearest real funds.
    data : str or None
        Catalog name, file or sample of prices: only what is quoted there at the date may be held, and the market's
        volatility and momentum up to that date are conditions unless the prompt states them.
    text : bool
        Read by meaning what the vocabulary does not know (extra ``text``); what was read so is in the summary.
    previous : str
        ``"auto"``: where the prompt names a manager whose last book the model has read, that is where it starts from,
        if it had been filed by the date; ``"none"``: from nothing; else a CSV with the columns ``asset, weight``.
    decide_at : str or None
        Date at which the portfolio would have been decided on; earlier than the model's knowledge it is refused,
        unless ``allow_contaminated``.
    """

    date: str | None = None
    max_weight: float | None = None
    exclude: tuple[str, ...] = ()
    universe: tuple[str, ...] | None = None
    n_holdings: int | None = None
    sector_caps: Mapping[str, float] = field(default_factory=dict)
    guidance: float = 1.0
    diversity: float = 0.5
    model: str = "default"
    corpus: str | None = None
    data: str | None = None
    text: bool = False
    previous: str = "auto"
    decide_at: str | None = None
    allow_contaminated: bool = False


@dataclass(frozen=True)
class Generated:
    """What a generation gives.

    Attributes
    ----------
    weights : DataFrame (sample x ticker)
    summary : dict
        JSON values: prompt as understood, unknown words, date, knowledge cut-off, measures, top holdings.
    influence : DataFrame (what was said x ticker)
        Mean weight with the whole prompt less that without this part, noise and limits alike.
    nearest : DataFrame or None
        Real funds with the largest overlap: ``sample, fund, fund_name, as_of, overlap``.
    trajectory : Trajectory
    files : dict
        Name to path of what was written.
    """

    weights: pd.DataFrame
    summary: dict[str, Any]
    influence: pd.DataFrame
    nearest: pd.DataFrame | None
    trajectory: Trajectory
    files: dict[str, str]


def generate(
    prompt: str,
    n: int = 8,
    seed: int = 0,
    options: GenerateOptions | None = None,
    out: str | Path | None = None,
    generator: FundGenerator | None = None,
) -> Generated:
    """Draw portfolios from a prompt and explain them.

    Parameters
    ----------
    prompt : str
        ``"Buffett, Closed-End Fund, Thematic, Value, Large-Cap, Sep 2023"`` or ``"style=growth, n=20"``.
    n, seed : int
    options : GenerateOptions, optional
    out : path, optional
        Folder for ``weights.csv``, ``generate.json``, ``strip.svg``, ``generate.html`` (animation, no network) and
        ``book_0.csv``, ...: each portfolio as a book that ``stress``, ``allocate`` and a backtest take.
    generator : FundGenerator, optional
        Instead of loading ``options.model``.

    Raises
    ------
    ConfigError, DataError, InfeasibleError
        See `FundGenerator.generate`.
    LookAheadError
        ``decide_at`` lies before the model's knowledge ends.
    """
    asked = options or GenerateOptions()
    model = generator if generator is not None else FundGenerator.load(asked.model)
    said, placed, spelling = _placed(model, prompt, asked)
    weights, path = draw(model, said, n, seed, placed)
    moved = influence(model, said, weights, seed, placed)
    near = None if asked.corpus is None else nearest_funds(weights, FundCorpus.load(asked.corpus))
    weights, moved = (frame.rename(columns=spelling) for frame in (weights, moved))
    summary = _summary(weights, n, seed, asked, near)
    literal = model.read(prompt).fields
    summary["read_by_meaning"] = {k: v for k, v in said.fields.items() if literal.get(k) != v}
    files = {} if out is None else _write(Path(out), weights, summary, moved, near, path)
    return Generated(weights, summary, moved, near, path, files)


def draw(
    model: FundGenerator, prompt: str | Prompt, n: int = 8, seed: int = 0, asked: GenerateOptions | None = None
) -> tuple[pd.DataFrame, Trajectory]:
    """Portfolios (sample x ticker) and how they came out of noise: `generate` without the explanations.

    Raises
    ------
    ConfigError, DataError, InfeasibleError, LookAheadError
        See `generate`.
    """
    asked = asked or GenerateOptions()
    _check_knowledge(model, asked)
    said = model.read(prompt)
    if not said.names and not said.unknown:
        raise ConfigError("the prompt is empty; write for example 'value, large-cap, Sep 2023'")
    weights, path = _draw(model, prompt, n, seed, asked, True)
    return weights, path


def _placed(
    model: FundGenerator, prompt: str | Prompt, asked: GenerateOptions
) -> tuple[Prompt, GenerateOptions, dict[str, str]]:
    """The prompt and the universe as the data of the user place them; and how these data spell the tickers."""
    said = model.read(prompt)
    if asked.text:
        said = understand(said, model.vocabulary_, sentence_encoder())
    if asked.data is None:
        return said, asked, {}
    when = said.date if asked.date is None else read_date(asked.date, strict=True)
    day = model.latest_ if when is None else when
    close = load_panel(asked.data).close().loc[:day].iloc[-273:]
    if len(close) < 2 or day - close.index[-1] > pd.Timedelta(days=10):
        until = f"end {close.index[-1]:%Y-%m-%d}" if len(close) else "begin later"
        raise DataError(f"no prices at {day:%Y-%m-%d}: the data {asked.data} {until}; give a date that they cover")
    quoted = close.columns[close.iloc[-1].notna()]
    own = dict(zip(canonical_ticker(quoted.to_series()), quoted))
    known = [t for t in model.securities_.tickers if t in own and (not asked.universe or t in asked.universe)]
    if not known:
        raise DataError(f"the model knows none of the {len(quoted)} names that {asked.data} quotes at {day:%Y-%m-%d}")
    everywhere = sparse.csr_matrix(np.full((1, close.shape[1]), 1.0 / close.shape[1]))
    market = market_tags(everywhere, list(close.columns), [day], close)[list(MARKET)].iloc[0]
    numbers = {str(k): float(v) for k, v in market.items() if np.isfinite(v)} | said.numbers
    return replace(said, numbers=numbers), replace(asked, universe=tuple(known), data=None), own


def _check_knowledge(model: FundGenerator, asked: GenerateOptions) -> None:
    if asked.decide_at is None or asked.allow_contaminated:
        return
    if pd.Timestamp(asked.decide_at) < model.knowledge_until_:
        raise LookAheadError(
            f"the generator has seen filings up to {model.knowledge_until_:%Y-%m-%d} and would decide at "
            f"{asked.decide_at}; train one on earlier filings, or set allow_contaminated to see what it would have said"
        )


def _draw(model: FundGenerator, prompt: Any, n: int, seed: int, asked: GenerateOptions, trace: bool) -> Any:
    return model.generate(
        prompt,
        n=n,
        random_state=seed,
        date=asked.date,
        max_weight=asked.max_weight,
        exclude=asked.exclude,
        universe=asked.universe,
        n_holdings=asked.n_holdings,
        sector_caps=asked.sector_caps,
        previous=_previous(asked),
        guidance=asked.guidance,
        diversity=asked.diversity,
        return_trajectory=trace,
    )


def _previous(asked: GenerateOptions) -> bool | pd.Series:
    if asked.previous in ("auto", "none"):
        return asked.previous == "auto"
    book = read_book(asked.previous)
    return book.set_axis(canonical_ticker(book.index.to_series()).to_numpy())


def influence(
    model: FundGenerator, prompt: str | Prompt, weights: pd.DataFrame, seed: int, asked: GenerateOptions, top: int = 12
) -> pd.DataFrame:
    """Which part of the prompt moved which holding: drawn again without each part, from the same noise.

    Where an earlier book was a condition, it is one of the parts (``previous``).
    """
    said = model.read(prompt)
    rows = {}
    if weights.attrs.get("previous"):
        other = _draw(model, prompt, len(weights), seed, replace(asked, previous="none"), False)
        both = weights.columns.union(other.columns)
        rows["previous"] = weights.mean().reindex(both).fillna(0.0) - other.mean().reindex(both).fillna(0.0)
    for name in said.names:
        rest = said.without(name)
        words: dict[str, object] = {**rest.fields, **rest.numbers}
        if rest.date is not None:
            words["date"] = f"{rest.date:%Y-%m-%d}"
        other = _draw(model, words, len(weights), seed, asked, False)
        both = weights.columns.union(other.columns)
        rows[name] = weights.mean().reindex(both).fillna(0.0) - other.mean().reindex(both).fillna(0.0)
    table = pd.DataFrame(rows).T.fillna(0.0)
    if table.empty:
        return table
    strongest = table.abs().max().sort_values(ascending=False).index[:top]
    return table[strongest]


def corpora() -> dict[str, Path]:
    """Fund corpora kept in Foliocast's home (``corpora/NAME``, saved by `FundCorpus.save`), by name."""
    return {file.parent.name: file.parent for file in sorted((home() / "corpora").glob("*/filings.parquet"))}


def load_generator(name: str = "default") -> FundGenerator:
    """A generator by name or folder: ``default`` is the packaged one."""
    return FundGenerator.load(name)


def load_corpus(name: str) -> FundCorpus:
    """A corpus of `corpora`.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    found = corpora()
    if name not in found:
        raise ConfigError(f"no fund corpus '{name}'; there are: {', '.join(found) or 'none'}")
    return FundCorpus.load(found[name])


def nearest_funds(weights: pd.DataFrame, corpus: FundCorpus, k: int = 3) -> pd.DataFrame:
    """The ``k`` real filings with the largest overlap with each portfolio."""
    at = corpus.securities.index.get_indexer(weights.columns)
    rows = []
    for sample, book in zip(weights.index, weights.to_numpy()):
        held = (at >= 0) & (book > 0)
        overlap = np.minimum(corpus.weights[:, at[held]].toarray(), book[held]).sum(axis=1)
        for i in np.argsort(-overlap, kind="stable")[:k]:
            filing = corpus.filings.iloc[i]
            day = f"{filing['as_of']:%Y-%m-%d}"
            rows.append((sample, filing["fund"], filing["fund_name"], day, float(overlap[i])))
    return pd.DataFrame(rows, columns=["sample", "fund", "fund_name", "as_of", "overlap"])


def _summary(
    weights: pd.DataFrame, n: int, seed: int, asked: GenerateOptions, near: pd.DataFrame | None
) -> dict[str, Any]:
    w = weights.to_numpy()
    pairs = [float(np.minimum(a, b).sum()) for i, a in enumerate(w) for b in w[:i]]
    top = weights.mean().head(10)
    return {
        **{str(k): v for k, v in weights.attrs.items()},
        "n": n,
        "seed": seed,
        "options": {k: v for k, v in asdict(asked).items() if v not in (None, (), {})},
        "n_holdings": [int(x) for x in (w > 0).sum(axis=1)],
        "effective_n": [float(x) for x in 1.0 / (w**2).sum(axis=1)],
        "top_weight": [float(x) for x in w.max(axis=1)],
        "pairwise_overlap": float(np.mean(pairs)) if pairs else None,
        "mean_weights": {str(t): float(x) for t, x in top.items()},
        "nearest": None if near is None else near.to_dict("records"),
    }


# ---- pictures


def strip(path: Trajectory, sample: int = 0, frames: int = FRAMES) -> str:
    """A still strip of the denoising sequence as SVG: the largest final holdings at falling noise levels."""
    table, shown = _shown(path, sample)
    chosen = np.unique(np.linspace(0, len(table) - 1, frames).round().astype(int))
    width, height, left = 128, 16 * len(shown) + 34, 62
    most = max(float(table[list(shown)].to_numpy().max()), 1e-9)
    parts = []
    for k, row in enumerate(chosen):
        x0 = left + k * width
        noise = table.index[row]
        parts.append(f'<text x="{x0}" y="14" font-size="11">noise {noise:.2g}</text>')
        for j, name in enumerate(shown):
            value = float(table.iloc[row][name])
            length = (width - 18) * value / most
            parts.append(f'<rect x="{x0}" y="{22 + 16 * j}" width="{length:.1f}" height="12" fill="#2a6fb0"/>')
    for j, name in enumerate(shown):
        label = html.escape(str(name))
        parts.append(f'<text x="{left - 6}" y="{32 + 16 * j}" font-size="11" text-anchor="end">{label}</text>')
    total = left + width * len(chosen)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height}" font-family="sans-serif" '
        f'role="img" aria-label="Denoising sequence of sample {sample}">{"".join(parts)}</svg>'
    )


def started(summary: Mapping[str, Any]) -> str:
    """The earlier book a generation started from, in a sentence; empty if from none."""
    past = summary.get("previous")
    if not past:
        return ""
    when = f" of {past['as_of']}" if past["as_of"] else ""
    filed = f", filed {past['filed']}" if past.get("filed") else ""
    return f"It starts from the book of {past['fund']}{when}{filed}, and keeps {past['kept']:.0%} of it."


def _shown(path: Trajectory, sample: int) -> tuple[pd.DataFrame, Sequence[str]]:
    table = path.frame(sample)
    return table, list(table.iloc[-1].sort_values(ascending=False, kind="stable").index[:BARS])


def page(weights: pd.DataFrame, summary: Mapping[str, Any], moved: pd.DataFrame, path: Trajectory, near: Any) -> str:
    """A self-contained page: strip, animation with a slider, holdings, influence, nearest real funds."""
    table, shown = _shown(path, 0)
    frames = [[round(float(v), 5) for v in table.iloc[i][list(shown)]] for i in range(len(table))]
    data = json.dumps({"names": list(shown), "noise": [round(float(s), 4) for s in table.index], "frames": frames})
    script = data.replace("</", "<\\/")  # no string may end the script element
    unknown = ", ".join(map(str, summary.get("unknown", []))) or "none"
    said = ", ".join(f"{k} = {v}" for k, v in summary.get("prompt", {}).items())
    holdings = weights.T.head(25).map(lambda v: f"{v:.2%}" if v > 0 else "").to_html(border=0)
    moves = moved.T.map(lambda v: f"{v:+.2%}").to_html(border=0) if len(moved) else ""
    real = "" if near is None else "<h2>Nearest real funds</h2>" + near.to_html(border=0, index=False)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Generated portfolios</title>
<style>body{{font-family:sans-serif;margin:2em;max-width:75em}}td,th{{padding:2px 8px;text-align:right}}
.bar{{height:14px;background:#2a6fb0;margin:2px 0}}.row{{display:flex}}.row span{{width:6em;text-align:right;
padding-right:.6em}}</style>
<h1>Generated portfolios</h1><p>Understood: {html.escape(said)}, date = {summary.get("date")}. Not understood:
{html.escape(unknown)}. {html.escape(started(summary))}
The model has seen filings up to {summary.get("knowledge_until")}.</p>
<h2>Out of noise (sample 0)</h2>{strip(path)}
<p><button id="play">play</button> <input id="at" type="range" min="0" max="{len(frames) - 1}" value="0">
<span id="noise"></span></p><div id="bars"></div>
<h2>Holdings</h2>{holdings}<h2>What each part of the prompt moved</h2>{moves}{real}
<script>const d={script},m=Math.max(...d.frames.flat()),b=document.getElementById("bars"),
a=document.getElementById("at"),s=document.getElementById("noise");let t=null;
for(const n of d.names){{const r=document.createElement("div"),k=document.createElement("span"),
v=document.createElement("div");r.className="row";k.textContent=n;v.className="bar";r.append(k,v);b.append(r)}}
function draw(){{const i=+a.value;s.textContent="noise "+d.noise[i];
d.frames[i].forEach((x,j)=>b.children[j].lastChild.style.width=500*x/m+"px")}}
a.oninput=draw;document.getElementById("play").onclick=()=>{{clearInterval(t);a.value=0;draw();
t=setInterval(()=>{{a.value=+a.value+1;draw();if(+a.value>={len(frames) - 1})clearInterval(t)}},350)}};
draw()</script></html>
"""


def _write(
    folder: Path, weights: pd.DataFrame, summary: dict[str, Any], moved: pd.DataFrame, near: Any, path: Trajectory
) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    weights.to_csv(folder / "weights.csv")
    (folder / "generate.json").write_text(json.dumps(summary, indent=2, allow_nan=False), encoding="utf-8")
    (folder / "strip.svg").write_text(strip(path), encoding="utf-8")
    (folder / "generate.html").write_text(page(weights, summary, moved, path, near), encoding="utf-8")
    names = ["weights.csv", "generate.json", "strip.svg", "generate.html"]
    for sample, row in weights.iterrows():
        names.append(f"book_{sample}.csv")
        book = (
            row[row > 0].sort_values(ascending=False, kind="stable").rename("weight").rename_axis("asset").reset_index()
        )
        book["knowledge_until"] = summary["knowledge_until"]
        book.to_csv(folder / names[-1], index=False)
    return {name: str(folder / name) for name in names}
