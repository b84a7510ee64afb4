"""``score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Jobs, Json, Out, Seed, console, guarded, progress

Members = Annotated[
    Path | None,
    typer.Option(
        help="CSV with ticker, start_date, end_date: who belonged to the universe when.",
        show_default=False,
        metavar="CSV",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("score")(score)


@guarded
def score(
    config: Annotated[
        Path | None,
        typer.Argument(help=r"TOML file with \[data], \[schedule], horizons and \[models.NAME].", show_default=False),
    ] = None,
    data: Data = None,
    members: Members = None,
    allow_jumps: Annotated[bool, typer.Option("--allow-jumps", help="Accept moves beyond 50 % in one bar.")] = False,
    models: Annotated[
        str | None, typer.Option(help="Only these of the table's models, with commas.", show_default=False)
    ] = None,
    horizons: Annotated[str, typer.Option(help="Bars ahead, with commas.")] = "1,5",
    train: Annotated[int, typer.Option(help="Bars that a model is fitted on.", min=60)] = 1008,
    test: Annotated[int, typer.Option(help="Bars between refits.", min=1)] = 1008,
    out: Out = None,
    seed: Seed = None,
    jobs: Jobs = 0,
    as_json: Json = False,
) -> Any:
    r"""Which forecaster ranks assets best: walk-forward RankIC with standard errors, beside the linear one.

    [bold]foliocast score --data prices.parquet --members spells.csv[/bold]

    Every forecaster is refitted on the same past and ranks the members of every later day; the rank correlation with
    the returns of the next 1 and 5 bars is averaged over days, with Newey-West standard errors. Every model is audited:
    a rewritten future must not change its predictions by a bit. With --out the table and the daily values are written.
    """
    from foliocast.core.time import WalkForward
    from foliocast.runtime.compute import Compute
    from foliocast.workflows import rank_table as work
    from foliocast.workflows.plan import load_data

    chosen = _chosen(config, data, members, allow_jumps, horizons, train, test, seed)
    _, panel = load_data(chosen.data)
    made = _only(work.make_models(chosen.models, panel), models)
    schedule = WalkForward(**chosen.schedule.model_dump())
    total = len(made) * len(schedule.folds(len(panel)))
    with progress(as_json) as report:
        compute = Compute(jobs, on_done=lambda done: report("fits", done, total))
        card = work.rank_table(made, panel, schedule, chosen.horizons, chosen.seed, compute)
    screen = console(as_json)
    for horizon in chosen.horizons:
        screen.print(_screen(card.table, horizon))
    if panel.notice:
        screen.print(f"[yellow]{panel.notice}[/yellow]")
    answer: dict[str, Any] = {"data": panel.name, "table": card.table.to_dict(orient="records")}
    if out is not None:
        answer["files"] = _write(card, out)
        screen.print("Written: " + ", ".join(answer["files"]))
    return answer


def _chosen(
    config: Path | None,
    data: str | None,
    members: Path | None,
    allow_jumps: bool,
    horizons: str,
    train: int,
    test: int,
    seed: int | None,
) -> Any:
    """The config with what the command line says put in; without a file the command line says it all."""
    from foliocast.core.errors import ConfigError
    from foliocast.workflows.rank_table import RankConfig, load_rank_config

    if config is None:
        try:
            wanted = tuple(int(part) for part in horizons.split(","))
        except ValueError:
            raise ConfigError(f"--horizons {horizons!r}: expected whole numbers with commas, e.g. 1,5") from None
        found = RankConfig.model_validate({"horizons": wanted, "schedule": {"train": train, "test": test}})
    else:
        found = load_rank_config(config)
    changes: dict[str, Any] = {}
    if data is not None:
        changes["source"] = data
    if members is not None:
        changes["members"] = str(members)
    if allow_jumps:
        changes["allow_jumps"] = True
    update: dict[str, Any] = {"data": found.data.model_copy(update=changes)}
    if seed is not None:
        update["seed"] = seed
    return found.model_copy(update=update)


def _only(made: dict[str, Any], models: str | None) -> dict[str, Any]:
    from foliocast.core.errors import ConfigError

    if models is None:
        return made
    wanted = [name.strip() for name in models.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in made]
    if unknown or not wanted:
        raise ConfigError(f"no model '{', '.join(unknown)}' in the table; there are {', '.join(made)}")
    return {name: made[name] for name in wanted}


def _screen(table: Any, horizon: int) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    rows = table[table["horizon"] == horizon]
    title = f"RankIC with the return of the next {horizon} bar{'s' if horizon > 1 else ''}"
    title += f", {rows['days'].max()} days out of sample, {rows['assets'].max()} assets a day"
    heads = (
        Column("model", min_width=max(map(len, rows["model"]))),
        "RankIC (s.e.)",
        "ICIR",
        "days > 0",
        "beyond linear",
        "audit",
    )
    shown = Table(*heads, title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fits 80 characters
    for _, row in rows.iterrows():
        gap = row["beyond_linear"]
        beyond = "" if gap is None or gap != gap else _with_error(gap, row["beyond_linear_error"])
        skill = _with_error(row["rank_ic"], row["standard_error"])
        shown.add_row(row["model"], skill, f"{row['icir']:+.3f}", f"{row['positive']:.0%}", beyond, row["audit"])
    return shown


def _with_error(value: float, error: float) -> str:
    return f"{value:+.4f} ({error:.4f})".replace("0.", ".")


def _write(card: Any, out: Path) -> list[str]:
    import pandas as pd

    from foliocast.runtime.files import whole_file

    daily = pd.DataFrame({f"{name} / {horizon}": series for (name, horizon), series in card.daily.items()})
    with whole_file(out / "rank_ic.csv") as aside:
        card.table.to_csv(aside, index=False)
    with whole_file(out / "rank_ic_daily.parquet") as aside:
        daily.to_parquet(aside)
    return [str(out / "rank_ic.csv"), str(out / "rank_ic_daily.parquet")]
