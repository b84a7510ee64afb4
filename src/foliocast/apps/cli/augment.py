"""``augment``: does augmentation by diffusion help here?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Json, Out, console, guarded, progress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("augment")(augment)


@guarded
def augment(
    data: Data = None,
    sectors: Annotated[
        Path | None, typer.Option(help="CSV with columns symbol and sector.", show_default=False)
    ] = None,
    strengths: Annotated[str, typer.Option(help="Editing strengths T'/T, beside 0.")] = "0.15,0.35,0.6",
    backbones: Annotated[str, typer.Option(help="Of linear, lstm, transformer.")] = "linear,lstm,transformer",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of everything random.")] = 5,
    target: Annotated[int, typer.Option(min=3, help="Assets predicted; the augmenter learns from all.")] = 100,
    start: Annotated[str | None, typer.Option(help="First test bar; default: early.", show_default=False)] = None,
    train_bars: Annotated[int, typer.Option(help="Bars trained on.")] = 1008,
    test_bars: Annotated[int, typer.Option(help="Bars tested before training anew.")] = 672,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a predictor.")] = 150,
    cost_bps: Annotated[float, typer.Option(min=0.0, help="Of the value traded.")] = 10.0,
    out: Out = None,
    as_json: Json = False,
) -> Any:
    """Does augmenting a predictor's training set by diffusion help? Walk-forward, with seeds and negative controls.

    Training samples are noised to T' < T and denoised towards their own label and sector (DiffsFormer), and go beside
    the originals. Every arm is compared with the same seed's unaugmented predictor. A study that was stopped goes on
    with the same --out.
    """
    from foliocast.data import load_panel
    from foliocast.workflows.augment import study
    from foliocast.workflows.augment_data import StudySpec, read_sectors

    spec = StudySpec(
        strengths=tuple(_numbers(strengths)),
        backbones=tuple(name.strip() for name in backbones.split(",") if name.strip()),
        seeds=seeds,
        target=target,
        start=start,
        train_bars=train_bars,
        test_bars=test_bars,
        steps=steps,
        cost_bps=cost_bps,
    )
    panel = load_panel(data or "sample:sp500")
    known = {} if sectors is None else read_sectors(sectors)
    with progress(as_json) as report:
        answer = study(panel, out or Path("runs") / "augment", spec, known, report)
    screen = console(as_json)
    screen.print(_table(answer))
    screen.print("Differences are to the same seed without augmentation; brackets: 95 % over seeds.")
    if answer["notice"]:
        screen.print(f"[yellow]{answer['notice']}[/yellow]")
    return answer


def _numbers(text: str) -> list[float]:
    from foliocast.core.errors import ConfigError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"strengths = '{text}': expected numbers separated by commas, e.g. 0.15,0.35") from None


def _table(answer: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="Augmentation by editing")
    for name in ("backbone", "training set", "rank IC", "difference", "ICIR", "weighted IC", "top", "long-short"):
        table.add_column(name, justify="left" if name in ("backbone", "training set") else "right")
    for row in answer["rows"]:
        gap = row.get("against_none", {}).get("rank_ic")
        told = "" if gap is None else f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
        figures = [f"{row['icir']:.2f}", f"{row['weighted_ic']:.4f}"]
        returns = [f"{row[name]:+.1%}" for name in ("top_return", "long_short_return")]
        table.add_row(row["backbone"], row["arm"], f"{row['rank_ic']:.4f}", told, *figures, *returns)
    return table
