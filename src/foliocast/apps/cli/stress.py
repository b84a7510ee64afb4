"""``stress``: what a portfolio loses, when and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Json, Seed, console, guarded, panel_of, parse_weights


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("stress")(stress)


@guarded
def stress(
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="A=.5,B=.5; the rest is cash.", show_default=False)
    ] = None,
    book: Annotated[
        Path | None, typer.Option("--book", help="CSV with columns asset, weight.", show_default=False)
    ] = None,
    given: Annotated[
        str | None, typer.Option("--given", "-g", help="The event: NVDA=-0.2.", show_default=False)
    ] = None,
    factors: Annotated[
        str | None, typer.Option("--factors", help="Shocks carried by betas: SPY=-0.1.", show_default=False)
    ] = None,
    horizon: Annotated[int, typer.Option(min=1, max=2520, help="Bars ahead.")] = 10,
    models: Annotated[
        str, typer.Option("--models", "-m", help="Scenario models, side by side.")
    ] = "diffusion,fhs,t-copula",
    n: Annotated[int, typer.Option("--n", "-n", min=100, max=200_000, help="Scenarios a model.")] = 5000,
    loss: Annotated[float, typer.Option(min=0.001, max=0.99, help="Reverse stress: find what loses this much.")] = 0.1,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of VaR and CVaR.")] = 0.95,
    data: Data = None,
    seed: Seed = None,
    as_json: Json = False,
) -> Any:
    """Historical episodes, a conditional event through several models, factor shocks, reverse stress, Monte Carlo.

    foliocast stress --weights NVDA=.4,MSFT=.3,GOOG=.3 --given NVDA=-0.2 --horizon 10
    """
    from foliocast.workflows.stress import StressSpec
    from foliocast.workflows.stress import stress as work

    held = _held(weights, book)
    event = parse_weights(given) if given else None
    spec = StressSpec(
        models=tuple(name.strip() for name in models.split(",") if name.strip()),
        horizon=horizon,
        n=n,
        given=event,
        factors=parse_weights(factors) if factors else None,
        loss=loss,
        level=level,
        seed=seed or 0,
    )
    report = work(panel_of(data, [*held, *(event or {})]), held, spec)
    screen = console(as_json)
    for table in _tables(report, horizon, level):
        screen.print(table)
    screen.print(_picture(report, horizon))
    if report.notice:
        screen.print(f"[yellow]{report.notice}[/yellow]")
    return report.to_dict()


def _held(weights: str | None, book: Path | None) -> dict[str, float]:
    """The portfolio from one of both options."""
    from foliocast.core.errors import ConfigError

    if (weights is None) == (book is None):
        raise ConfigError("give the portfolio either as --weights A=.5,B=.5 or as --book FILE (columns asset, weight)")
    if weights is not None:
        return parse_weights(weights)
    from foliocast.portfolio.fixed import read_book

    return {str(name): float(value) for name, value in read_book(str(book)).items()}


def _tables(report: Any, horizon: int, level: float) -> list[Any]:
    """History, outlook by model, and who carries the risk; the JSON has everything."""
    from rich.table import Table

    past = Table("episode", "bars", "return", "max drawdown", title="Historical episodes that the data cover")
    for name, row in report.historical.iterrows():
        if row["bars"] > 0:
            past.add_row(str(name), str(int(row["bars"])), _percent(row["return"]), _percent(row["max_drawdown"]))
    ahead = Table("model", "event", "mean", "VaR", "CVaR", "worst", title=f"Over {horizon} bars, {level:.0%}")
    for (model, event), o in report.outlooks.items():
        ahead.add_row(model, event, *map(_percent, (o.mean, o.var, o.cvar, o.worst)))
    names = list(report.components)
    risk = Table("asset", "weight", *names, title=f"Components of CVaR {level:.0%}, by model")
    for asset in report.components[names[0]].index:
        first = report.components[names[0]].loc[asset]
        parts = [_percent(report.components[name].loc[asset, "component_cvar"]) for name in names]
        risk.add_row(str(asset), _percent(first["weight"]), *parts)
    return [past, ahead, risk]


def _picture(report: Any, horizon: int, width: int = 52) -> Any:
    """What each model makes of the portfolio, as boxes on one scale."""
    from rich.table import Table

    rows = {key: {float(q): value for q, value in o.quantiles.items()} for key, o in report.outlooks.items()}
    low = min(min(values.values()) for values in rows.values())
    high = max(max(values.values()) for values in rows.values())
    drawn = Table("model", "event", f"{low:+.1%}{f'{high:+.1%}':>{width - len(f'{low:+.1%}')}}", title_justify="left")
    ends = rows[next(iter(rows))]
    drawn.title = f"Return over {horizon} bars: dots {min(ends):.0%}-{max(ends):.0%}, dashes 5-95%, block 25-75%"
    for (model, event), values in rows.items():
        drawn.add_row(model, event, box(values, low, high, width))
    return drawn


def box(quantiles: dict[float, float], low: float, high: float, width: int = 52) -> str:
    """Quantiles as one line of characters: dots to the extremes, dashes 5-95 %, a block for the quarters.

    Parameters
    ----------
    quantiles : mapping of level to value
        With 0.05, 0.25, 0.5, 0.75 and 0.95; the smallest and largest level are the ends of the dots.
    low, high : float
        Ends of the scale.
    """
    span = max(high - low, 1e-12)

    def at(level: float) -> int:
        return round((quantiles[level] - low) / span * (width - 1))

    line = [" "] * width
    if low < 0 < high:
        line[round(-low / span * (width - 1))] = "│"
    for first, last, mark in ((min(quantiles), max(quantiles), "·"), (0.05, 0.95, "─"), (0.25, 0.75, "█")):
        line[at(first) : at(last) + 1] = mark * (at(last) + 1 - at(first))
    line[at(0.5)] = "┃"
    return "".join(line).rstrip()


def _percent(value: float) -> str:
    return "" if value is None or value != value else f"{value:+.2%}"
