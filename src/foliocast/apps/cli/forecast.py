"""``forecast``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Json, Out, Seed, console, guarded, panel_of, progress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("forecast")(forecast)


@guarded
def forecast(
    ticker: Annotated[str, typer.Argument(help="The asset, as it is called in the data.")],
    days: Annotated[int, typer.Option("--days", min=1, max=30, help="Trading days ahead.")] = 7,
    data: Data = None,
    model: Annotated[
        str,
        typer.Option(
            help="attention_lstm, lstm, transformer, cross_asset, trees, linear, naive, or one trained and named."
        ),
    ] = "attention_lstm",
    seed: Seed = None,
    out: Out = None,
    as_json: Json = False,
) -> Any:
    """Expected path of one ticker with 80 and 95 % bands, on trading days of its exchange.

    With --out the picture is drawn there: foliocast forecast NVDA --out .

    The model is fitted on the data set that holds the ticker (the first call takes a while, later ones do not);
    a ticker without data is refused, never served by a model of another one.
    """
    from foliocast.runtime.progress import listening
    from foliocast.workflows.forecast import forecast as work

    panel = panel_of(data, [ticker])
    with progress(as_json) as report, listening(report):
        answer = work(panel, ticker, days, model, seed or 0)
    screen = console(as_json)
    screen.print(_table(answer))
    screen.print(f"Model: {answer['model']}")
    judged = answer["calibration"]
    screen.print(
        f"Bands: calibrated on {judged['past_forecasts']} past forecasts of {judged['assets']} assets"
        if judged["past_forecasts"]
        else "Bands: as simulated; the history is too short to calibrate them"
    )
    if answer["notice"]:
        screen.print(f"[yellow]{answer['notice']}[/yellow]")
    if out is not None:
        from foliocast.workflows.forecast_picture import draw

        answer = {**answer, "picture": str(draw(answer, panel, out))}
        screen.print(f"Picture: {answer['picture']}", soft_wrap=True)
    return answer


def _table(answer: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"{answer['ticker']}: {answer['last_price']:.2f} at {answer['as_of']}")
    for name in ("date", "day", "price", "return", "80 % band", "95 % band"):
        table.add_column(name, justify="left" if name in ("date", "day") else "right")
    for row in answer["days"]:
        bands = [f"{row[f'low_{q}']:.2f} to {row[f'high_{q}']:.2f}" if f"low_{q}" in row else "" for q in (80, 95)]
        table.add_row(row["date"], row["day"], f"{row['price']:.2f}", f"{row['return']:+.2%}", *bands)
    return table
