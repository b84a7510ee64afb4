"""``simulate``: joint futures, free or conditional, and the scorecard of the models that make them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import (
    Data,
    Jobs,
    Json,
    Out,
    Seed,
    console,
    guarded,
    panel_of,
    parse_weights,
    progress,
)

Assets = Annotated[
    str | None, typer.Option("--assets", "-a", help="Comma-separated; default: all.", show_default=False)
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="fhs, fhs-gjr, fhs-har, fhs-garch, fhs-ewma, bootstrap, iid, gaussian-copula, t-copula, diffusion, "
        "pretrained, or one trained and named; several with commas for --score.",
    ),
]
Given = Annotated[
    str | None,
    typer.Option(
        "--given", "-g", help="Returns over the horizon that are taken as given, e.g. NVDA=-0.2.", show_default=False
    ),
]


CLASSICAL = ("fhs-gjr", "bootstrap", "fhs", "t-copula")  # always scored beside those asked for


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("simulate")(simulate)


@guarded
def simulate(
    model: Model = "fhs",
    assets: Assets = None,
    horizon: Annotated[int, typer.Option("--horizon", min=1, max=2520, help="Bars ahead.")] = 20,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1_000_000, help="Scenarios.")] = 1000,
    given: Given = None,
    given_file: Annotated[
        Path | None,
        typer.Option(help="CSV: a row a bar ahead, a column an asset, empty where free.", show_default=False),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Score the models walk-forward beside the classical ones.")
    ] = False,
    start: Annotated[str | None, typer.Option(help="First day scored (--score).", show_default=False)] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Bars between two origins (--score).")] = 5,
    train: Annotated[int, typer.Option("--train", min=60, help="Bars of history of a fit (--score).")] = 2520,
    pool: Annotated[
        str | None,
        typer.Option(
            help="Name or path of a panel of other assets from which diffusion may learn, up to each fit (--score).",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    jobs: Jobs = 0,
    as_json: Json = False,
) -> Any:
    """Draw joint scenarios from the end of the data: [bold]what if NVDA loses 20 % in ten days?[/bold]

    foliocast simulate --assets NVDA,GOOG,MSFT --given NVDA=-0.2 --horizon 10 --n 2000

    Every model meets what is given exactly; the other assets follow from the joint law. With --out the scenarios are
    written as Parquet (scenario, step, one column an asset).
    """
    from foliocast.runtime.progress import listening
    from foliocast.workflows import simulate as work

    chosen = None if assets is None else [a.strip() for a in assets.split(",") if a.strip()]
    panel = panel_of(data, chosen)
    if score:
        walk = {"start": start, "every": every, "train": train, "n_scenarios": n}
        scored = panel if chosen is None else panel.select(chosen)
        return _scorecard(scored, _competitors(model, seed or 0, pool), walk, seed or 0, jobs, out, as_json)
    fixed = _given(given, given_file)
    with progress(as_json) as report, listening(report):
        scenarios = work.simulate(panel, model, chosen, horizon, n, fixed or None, seed or 0)
    answer = work.summary(scenarios, fixed or None)
    screen = console(as_json)
    screen.print(_table(answer))
    for asset, check in answer.get("given", {}).items():
        screen.print(f"given {asset}: met to {check['largest_miss']:.1e} in every scenario")
    if panel.notice:
        screen.print(f"[yellow]{panel.notice}[/yellow]")
    if out is not None:
        answer["file"] = str(_write(scenarios, out))
        screen.print(f"Scenarios: {answer['file']}")
    return answer


def _given(text: str | None, file: Path | None) -> dict[str, Any]:
    """Both forms of a condition as one mapping."""
    fixed: dict[str, Any] = {} if text is None else dict(parse_weights(text))
    if file is not None:
        import pandas as pd

        from foliocast.core.errors import DataError

        try:
            table = pd.read_csv(file)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read as a CSV of returns (a column an asset): {error}") from error
        for name in table.columns:
            if not pd.api.types.is_numeric_dtype(table[name]):
                raise DataError(
                    f"{file.name}: column '{name}' holds {table[name].iloc[0]!r}; expected returns, empty where free"
                )
        fixed |= {str(name): table[name].to_numpy(float) for name in table.columns}
    return fixed


def _table(answer: dict[str, Any]) -> Any:
    from rich.table import Table

    title = (
        f"{answer['n_scenarios']} scenarios of {answer['horizon']} bars, {answer['model']}, {str(answer['as_of'])[:10]}"
    )
    table = Table("asset", "mean", "std", "5 %", "median", "95 %", "P(loss)", title=title)
    for asset, row in answer["assets"].items():
        q = row["quantiles"]
        cells = [row["mean"], row["standard_deviation"], q["0.05"], q["0.5"], q["0.95"], row["probability_of_loss"]]
        table.add_row(asset, *(f"{value:+.1%}" for value in cells[:-1]), f"{cells[-1]:.0%}")
    return table


def _write(scenarios: Any, out: Path) -> Path:
    import numpy as np
    import pandas as pd

    from foliocast.runtime.files import whole_file

    n, horizon, _ = scenarios.returns.shape
    frame = pd.DataFrame(scenarios.returns.reshape(n * horizon, -1), columns=list(scenarios.assets))
    frame.insert(0, "step", np.tile(np.arange(1, horizon + 1), n))
    frame.insert(0, "scenario", np.repeat(np.arange(n), horizon))
    with whole_file(out / "scenarios.parquet") as aside:
        frame.to_parquet(aside)
    return out / "scenarios.parquet"


def _competitors(model: str, seed: int, pool: str | None) -> dict[str, Any]:
    """The classical models and those named; diffusion learns from the pool, too."""
    from foliocast.workflows.simulate import make_model

    names = [*CLASSICAL, *(m.strip() for m in model.split(","))]
    others = None if pool is None else panel_of(pool, None)
    options = {"diffusion": {} if others is None else {"pool": others}}
    return {name: make_model(name, seed, **options.get(name, {})) for name in dict.fromkeys(names)}


def _scorecard(
    panel: Any, models: dict[str, Any], walk: dict[str, Any], seed: int, jobs: int, out: Path | None, as_json: bool
) -> dict[str, Any]:
    import pandas as pd

    from foliocast.runtime.compute import Compute
    from foliocast.runtime.files import whole_file
    from foliocast.workflows.score import scorecard
    from foliocast.workflows.score_page import page

    with progress(as_json) as report:
        compute = Compute(jobs, on_done=lambda done: report("fits and scores", done, done))
        card = scorecard(models, panel, random_state=seed, run_tasks=compute, reference="fhs-gjr", **walk)
    screen = console(as_json)
    screen.print(_scores(card.table))
    own = [name for name in card.table.index if name not in CLASSICAL]
    for name in own:
        screen.print(_gaps(card, name))
    answer: dict[str, Any] = {"scorecard": card.table.reset_index().to_dict(orient="records")}
    if out is not None:
        with whole_file(out / "scorecard.html") as aside:
            aside.write_text(page(card, own), encoding="utf-8")
        with whole_file(out / "scorecard.csv") as aside:
            card.table.to_csv(aside)
        with whole_file(out / "origins.parquet") as aside:
            pd.concat(card.per_origin, names=["model"]).reset_index().to_parquet(aside)
        answer["file"] = str(out / "scorecard.html")
        screen.print(f"Written: {out / 'scorecard.html'}, scorecard.csv, origins.parquet (every score of every day)")
    return answer


def _scores(scores: Any) -> Any:
    """A row a score, a column a model: many scores of few models fit a screen so."""
    from rich.table import Table

    table = Table("", *map(str, scores.index), title="Out of sample, walk-forward; scores: lower is better")
    for key in scores.columns:
        cells = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in scores[key])
        table.add_row(str(key), *cells)
    return table


def _gaps(card: Any, name: str) -> Any:
    """Mean difference of a model to each of the others, in per cent, with the p-value."""
    from rich.table import Table

    from foliocast.workflows.score_page import margins

    gaps = margins(card, name)
    table = Table(f"{name} against", *gaps.columns, title="Mean difference (p, Diebold-Mariano); negative: better")
    for other, cells in gaps.iterrows():
        table.add_row(str(other), *cells)
    return table
