"""``allocate``: weights now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Json, Seed, console, guarded, panel_of


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("allocate")(allocate)


@guarded
def allocate(
    objective: Annotated[
        str, typer.Option(help="min_risk, max_utility, max_return or max_growth (Kelly).")
    ] = "min_risk",
    risk: Annotated[
        str, typer.Option(help="cvar, variance, volatility, semivariance, evar, entropic or max_loss.")
    ] = "cvar",
    alpha: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of CVaR and EVaR.")] = 0.95,
    risk_aversion: Annotated[float, typer.Option(min=0.0, help="Price of risk in max_utility.")] = 1.0,
    max_weight: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Per asset.", show_default=False)] = None,
    assets: Annotated[str | None, typer.Option("--assets", "-a", help="Default: all.", show_default=False)] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Scenario model: fhs, bootstrap, diffusion, ...")] = "fhs",
    horizon: Annotated[int, typer.Option(min=1, max=2520, help="Bars ahead.")] = 20,
    n: Annotated[int, typer.Option("--n", "-n", min=10, max=200_000, help="Scenarios.")] = 5000,
    benchmark: Annotated[
        Path | None,
        typer.Option(
            "--benchmark", "-b", help="Book to stay near: CSV with columns asset, weight.", show_default=False
        ),
    ] = None,
    max_tracking: Annotated[
        float, typer.Option(min=0.0, help="With --benchmark: largest tracking error over the horizon.")
    ] = 0.02,
    data: Data = None,
    seed: Seed = None,
    as_json: Json = False,
) -> Any:
    """Optimal long-only weights on joint scenarios, with a certified duality gap.

    foliocast allocate --objective min_risk --risk cvar --max-weight 0.4
    """
    from rich.table import Table

    from foliocast.portfolio.fixed import read_book
    from foliocast.workflows.allocate import Wish, table
    from foliocast.workflows.allocate import allocate as work

    chosen = None if assets is None else [a.strip() for a in assets.split(",") if a.strip()]
    book = None if benchmark is None else {str(k): float(v) for k, v in read_book(benchmark).items()}
    wish = Wish(objective, risk, alpha, risk_aversion, max_weight, model, horizon, n, book, max_tracking)
    answer = work(panel_of(data, chosen or list(book or {}) or None), wish, chosen, seed or 0)
    screen = console(as_json)
    shown = Table("asset", "weight", title=f"{objective}, {risk}, as of {answer['as_of'][:10]}")
    for name, weight in table(answer).items():
        shown.add_row(str(name), f"{weight:.2%}")
    screen.print(shown)
    o = answer["outcome"]
    screen.print(
        f"Over {horizon} bars: mean {o['mean']:+.2%}, deviation {o['standard_deviation']:.2%}, "
        f"VaR {o['value_at_risk']:.2%}, CVaR {o['cvar']:.2%} at {alpha:.0%}; "
        f"gap {answer['gap']:.0e} ({answer['solver']})"
    )
    if answer["benchmark"]:
        near = answer["benchmark"]
        screen.print(
            f"Benchmark {benchmark}: mean {near['outcome']['mean']:+.2%}, CVaR {near['outcome']['cvar']:.2%}; tracking "
            f"error {near['tracking_error']:.2%}, active share {near['active_share']:.0%}"
        )
    if answer["notice"]:
        screen.print(f"[yellow]{answer['notice']}[/yellow]")
    return answer
