"""``generate``: fund portfolios from a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Json, Out, Seed, console, guarded, parse_weights


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("generate")(generate)


@guarded
def generate(
    prompt: Annotated[
        str, typer.Argument(help='e.g. "Buffett, Closed-End Fund, Thematic, Value, Large-Cap, Sep 2023".')
    ],
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1000, help="Portfolios to draw.")] = 4,
    date: Annotated[str | None, typer.Option(help="As of when; else read from the prompt.", show_default=False)] = None,
    max_weight: Annotated[float | None, typer.Option(help="Largest weight of one holding.", show_default=False)] = None,
    exclude: Annotated[str, typer.Option(help="Tickers never held, separated by commas.")] = "",
    n_holdings: Annotated[int | None, typer.Option(help="Number of holdings.", show_default=False)] = None,
    sector_caps: Annotated[str, typer.Option(help="Largest share by sector, e.g. Technology=0.3.")] = "",
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed; 1 is as learnt.")] = 1.0,
    diversity: Annotated[float, typer.Option(min=0.0, help="0: the likeliest portfolio; 1: the learnt law.")] = 0.5,
    universe: Annotated[str, typer.Option(help="The only tickers that may be held, separated by commas.")] = "",
    data: Data = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Folder of a saved corpus of real funds, to show the nearest.", show_default=False),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="default, or the folder of a saved generator.")
    ] = "default",
    text: Annotated[
        bool, typer.Option("--text", help="Read unknown words by meaning (extra text, some seconds).")
    ] = False,
    previous: Annotated[
        str, typer.Option(help="Earlier book to start from: auto (the manager's last one), none, or a CSV.")
    ] = "auto",
    decide_at: Annotated[
        str | None, typer.Option(help="Refuse if the model has seen filings from after this date.", show_default=False)
    ] = None,
    out: Out = None,
    seed: Seed = None,
    as_json: Json = False,
) -> Any:
    """Draw several valid portfolios that fit a description: words, or key=value pairs, separated by commas.

    Words that are not understood are reported, not swallowed. A manager that is named is followed from the last book
    he had filed by the date (--previous none: from the words alone). With --out the weights, the denoising sequence, an
    animated page and a book a portfolio are written, for stress --book, allocate --benchmark and FixedWeights. With
    --data only what is quoted there at the date may be held, and the state of that market is a condition.
    """
    from foliocast.workflows.generate import GenerateOptions, started
    from foliocast.workflows.generate import generate as work

    options = GenerateOptions(
        date=date,
        max_weight=max_weight,
        exclude=_names(exclude),
        universe=_names(universe) or None,
        n_holdings=n_holdings,
        sector_caps=parse_weights(sector_caps) if sector_caps else {},
        guidance=guidance,
        diversity=diversity,
        data=data,
        corpus=None if corpus is None else str(corpus),
        model=model,
        text=text,
        previous=previous,
        decide_at=decide_at,
    )
    made = work(prompt, n=n, seed=seed or 0, options=options, out=out)
    screen = console(as_json)
    screen.print(_table(made.weights))
    if begun := started(made.summary):
        screen.print(begun)
    if made.summary["read_by_meaning"]:
        found = ", ".join(f"{k} = {v}" for k, v in made.summary["read_by_meaning"].items())
        screen.print(f"read by meaning: {found}")
    if made.summary["unknown"]:
        screen.print(f"[yellow]not understood: {', '.join(map(str, made.summary['unknown']))}[/yellow]")
    for name, path in made.files.items():
        screen.print(f"{name}: {path}", soft_wrap=True)
    samples = {str(k): {t: w for t, w in row.items() if w > 0} for k, row in made.weights.T.to_dict().items()}
    return {**made.summary, "weights": samples, "files": made.files}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _table(weights: Any, top: int = 12) -> Any:
    from rich.table import Table

    table = Table(title=f"{len(weights)} portfolios, their largest holdings", header_style="bold")
    for sample in weights.index:
        table.add_column(f"sample {sample}", justify="right")
    ranked = [row[row > 0].sort_values(ascending=False) for _, row in weights.iterrows()]
    for place in range(top):
        table.add_row(*(f"{r.index[place]} {r.iloc[place]:.1%}" if place < len(r) else "" for r in ranked))
    table.add_section()
    table.add_row(*(f"{len(r)} names" for r in ranked))
    return table
