"""``data``: the catalog of market data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Json, console, guarded

app = typer.Typer(help="The catalog: import, fetch, list, check and show market data.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name in the catalog.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Mend what can be mended without inventing a number; every repair is listed.")
]
AllowJumps = Annotated[
    bool, typer.Option("--allow-jumps", help="Accept one-day moves above 60 % (else taken for unadjusted splits).")
]
Gaps = Annotated[str, typer.Option("--gaps", help="refuse, or keep: an empty price between two quotes is no quote.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set of that name.")]


@app.command("list")
@guarded
def listed(as_json: Json = False) -> Any:
    """Everything in the catalog, and the embedded samples."""
    from rich.table import Table

    from foliocast.data import SAMPLES, Catalog

    cards = Catalog().list()
    table = Table("name", "assets", "bars", "from", "to", "source")
    for card in cards:
        table.add_row(card.name, str(len(card.assets)), str(card.bars), card.start, card.end, card.source)
    for name in SAMPLES:
        table.add_row(name, "", "", "", "", "inside the package")
    console(as_json).print(table)
    return {"datasets": [card.to_dict() for card in cards], "samples": list(SAMPLES)}


@app.command("import")
@guarded
def imported(
    path: Annotated[Path, typer.Argument(help="CSV or Parquet file: wide, long, Yahoo or Kaggle layout, sniffed.")],
    name: Annotated[str | None, typer.Option("--name", help="Default: the file's name.", show_default=False)] = None,
    repair: Repair = False,
    allow_jumps: AllowJumps = False,
    gaps: Gaps = "refuse",
    overwrite: Overwrite = False,
    dayfirst: Annotated[str | None, typer.Option(help="yes or no: 03/04/2020 is 3 April.", show_default=False)] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of intraday times.", show_default=False)] = None,
    licence: Annotated[str, typer.Option(help="What may be done with the data; kept beside them.")] = "",
    as_json: Json = False,
) -> Any:
    """Read, validate and keep a file. What breaks a rule is refused in one sentence; nothing is half-imported."""
    from foliocast.data import Catalog, Provenance, Rules

    rules = Rules(repair=repair, allow_jumps=allow_jumps, gaps=gaps)
    card = Catalog().import_file(path, name, rules=rules, provenance=Provenance(licence=licence), overwrite=overwrite)
    return _told(card, as_json)


@app.command("fetch")
@guarded
def fetched(
    tickers: Annotated[str, typer.Argument(help="Tickers, separated by commas.")],
    name: Annotated[str, typer.Option("--name", help="Name in the catalog.")] = "yahoo",
    start: Annotated[str | None, typer.Option(help="First date.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option(help="Last date.", show_default=False)] = None,
    allow_jumps: AllowJumps = False,
    repair: Repair = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> Any:
    """Daily prices from Yahoo (extra: live), with retries and a cache."""
    from foliocast.data import Catalog, Provenance, Rules, fetch_yahoo

    wanted = [ticker.strip() for ticker in tickers.split(",") if ticker.strip()]
    bars = fetch_yahoo(wanted, start=start, end=end)
    notice = "From Yahoo Finance, for personal use; not point in time."
    rules = Rules(repair=repair, allow_jumps=allow_jumps)
    card = Catalog().add(
        bars, name, rules=rules, provenance=Provenance("Yahoo Finance", "", notice), overwrite=overwrite
    )
    return _told(card, as_json)


@app.command("check")
@guarded
def checked(name: Name, as_json: Json = False) -> Any:
    """Hash the files again and validate the data again."""
    from foliocast.data import Catalog

    findings = Catalog().check(name)
    console(as_json).print(f"'{name}' is whole and valid")
    for warning in findings.warnings:
        console(as_json).print(f"[yellow]{warning}[/yellow]")
    return {"name": name, "valid": True, "warnings": list(findings.warnings)}


@app.command("show")
@guarded
def shown(
    name: Annotated[str, typer.Argument(help="Name in the catalog, a file, or a sample.")], as_json: Json = False
) -> Any:
    """Describe a data set: span, fields, asset by asset, and its last rows."""
    from rich.table import Table

    from foliocast.data import load_panel

    panel = load_panel(name)
    returns = panel.returns()
    about = {
        "name": panel.name,
        "hash": panel.data_hash,
        "bars": len(panel),
        "start": str(panel.times[0]),
        "end": str(panel.times[-1]),
        "fields": list(panel.fields),
        "notice": panel.notice,
    }
    table = Table("asset", "from", "to", "quotes", "last close", "volatility, annual", title=repr(panel))
    rows = []
    for asset in panel.assets:
        close, moves = panel.frame()[asset].dropna(), returns[asset].dropna()
        spread = float(moves.std() * 252**0.5) if len(moves) > 1 else None
        rows.append({"asset": asset, "from": str(close.index[0]), "to": str(close.index[-1]), "quotes": len(close)})
        rows[-1] |= {"last_close": float(close.iloc[-1]), "volatility": spread}
        cells = [asset, str(close.index[0])[:10], str(close.index[-1])[:10], str(len(close))]
        table.add_row(*cells, f"{close.iloc[-1]:.2f}", "" if spread is None else f"{spread:.1%}")
    console(as_json).print(table)
    if panel.notice:
        console(as_json).print(f"[yellow]{panel.notice}[/yellow]")
    return {**about, "assets": rows}


@app.command("remove")
@guarded
def removed(name: Name, as_json: Json = False) -> Any:
    """Delete a data set from the catalog."""
    from foliocast.data import Catalog

    Catalog().remove(name)
    console(as_json).print(f"removed '{name}'")
    return {"removed": name}


def _told(card: Any, as_json: bool) -> dict[str, Any]:
    screen = console(as_json)
    screen.print(
        f"'{card.name}': {len(card.assets)} assets, {card.bars} bars, {card.start[:10]} to {card.end[:10]}, "
        f"layout {card.layout}, fields {', '.join(card.fields)}"
    )
    for line in (*card.notes, *card.warnings):
        screen.print(f"[yellow]{line}[/yellow]")
    for line in card.repairs:
        screen.print(f"[red]repaired:[/red] {line}")
    return card.to_dict()
