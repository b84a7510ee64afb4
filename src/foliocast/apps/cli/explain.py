"""``explain``: what drove predictions, risk and profit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Json, Out, Seed, console, guarded, progress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("explain")(explain)


@guarded
def explain(
    run: Annotated[Path, typer.Argument(help="Run folder, or its id; `foliocast runs` lists them.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", help="Only this one; may be given again.", show_default=False),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Of how many of the last folds to explain the forecasts (they are fitted again).")
    ] = 2,
    methods: Annotated[
        str, typer.Option("--methods", "-m", help="gradients, shap, permutation; default all that apply.")
    ] = "",
    factors: Annotated[
        str | None,
        typer.Option("--factors", help="Data set of factors (sample:factors); default market and components."),
    ] = None,
    out: Out = None,
    seed: Seed = None,
    as_json: Json = False,
) -> Any:
    """What drove a run: money and risk by asset, cost, factor, regime and feature, and what the forecasts looked at.

    [bold]foliocast explain RUN[/bold] takes the account of every strategy apart (every grouping adds up to the same
    total), fits the last folds' models again, checks that they give the predictions on record, and attributes these
    to features by integrated gradients, SHAP and permutation. Tables go to RUN/explain, charts into RUN/report.html.

    foliocast explain RUN -s attention_lstm --folds 4 --methods shap,permutation

    Gradients and SHAP need the extra: pip install 'foliocast\\[explain]'.
    """
    from foliocast.workflows.explain import ExplainSpec
    from foliocast.workflows.explain import explain as work

    spec = ExplainSpec(
        tuple(strategy or ()),
        folds,
        tuple(name.strip() for name in methods.split(",") if name.strip()),
        factors,
        seed or 0,
    )
    with progress(as_json) as report:
        answer = work(run, out or Path("runs"), spec, report)
    screen = console(as_json)
    for table in _tables(answer["strategies"]):
        screen.print(table)
    screen.print(f"Tables: {answer['folder']}\nReport: {Path(answer['folder']).parent / 'report.html'}")
    return answer


def _tables(found: dict[str, Any]) -> list[Any]:
    """Money of every strategy, and the features behind the forecasts; the files have everything."""
    from rich.table import Table

    money = Table("strategy", "P&L", "before costs", "costs", "most", "least", title="P&L over the starting equity")
    for name, parts in found.items():
        assets, costs = parts["pnl"]["asset"], parts["pnl"]["cost"]
        before = costs["before costs"]
        held = {asset: value for asset, value in assets.items() if asset != "financing"}
        best, worst = max(held, key=held.__getitem__), min(held, key=held.__getitem__)
        total = parts["total_pnl"]
        row = [f"{total:+.1%}", f"{before:+.1%}", f"{total - before:+.1%}"]
        money.add_row(name, *row, f"{best} {assets[best]:+.1%}", f"{worst} {assets[worst]:+.1%}")
    drivers = Table("strategy", "method", "features, by share of importance", title="Behind the forecasts")
    for name, parts in found.items():
        for method, shares in parts.get("importance", {}).items():
            ranked = sorted(shares, key=shares.__getitem__, reverse=True)[:5]
            drivers.add_row(name, method, ", ".join(f"{f} {shares[f]:.0%}" for f in ranked))
    return [money, drivers] if drivers.row_count else [money]
