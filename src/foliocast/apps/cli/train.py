"""``train``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Json, Out, Seed, console, guarded, progress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(train)


@guarded
def train(
    config: Annotated[
        str,
        typer.Argument(
            help=r"TOML file with \[model] and \[data], or attention_lstm, lstm, transformer, cross_asset, diffusion."
        ),
    ],
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    as_json: Json = False,
) -> Any:
    """Fit a model once and keep it with its card: [bold]foliocast train diffusion --data prices.csv[/bold]

    Kept under its name, it is used by [bold]foliocast forecast --model NAME[/bold] and [bold]foliocast simulate
    --model NAME[/bold]; with --out it goes into that folder, and the folder is its name. A config says more:

    \b
    name = "mine"
    \\[data]
    source = "prices.csv"
    end = "2020-12-31"
    \\[model]
    type = "AttentionLSTM"
    epochs = 30

    Weights are safetensors; the card holds the hash of the data and the date that the model has seen data up to.
    """
    from foliocast.workflows.train import load_train_config
    from foliocast.workflows.train import train as work

    chosen = load_train_config(config)
    if data is not None:
        chosen = chosen.model_copy(update={"data": chosen.data.model_copy(update={"source": data})})
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    with progress(as_json) as report:
        answer = work(chosen, out, report)
    screen = console(as_json)
    screen.print(
        f"{answer['kind']} of {len(answer['assets'])} assets, {answer['bars']} bars up to {answer['knowledge_until']}, "
        f"fitted in {answer['seconds']:.0f} s"
    )
    for part in answer["training"].values():
        held_out = f", {part['valid_loss']:.4f} held out" if "valid_loss" in part else ""
        screen.print(f"loss {part['train_loss']:.4f}{held_out} after {part['steps']} steps")
    verb = "simulate" if answer["kind"] == "DiffusionScenarios" else "forecast TICKER"
    screen.print(
        f"Model: {answer['folder']}\nUse it: foliocast {verb} --model {answer['folder'] if out else answer['name']}"
    )
    return answer
