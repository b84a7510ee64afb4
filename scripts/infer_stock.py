"""NVDA from GOOG + MSFT: the inpainted return, day by day and out of sample, beside regression and a t-copula.

    python scripts/infer_stock.py PRICES.parquet --start 2013-01-01 --out runs/inference

Prints one JSON line a model (CRPS in basis points, slope of the actual on the inferred mean, coverage of the 90 % band,
t of the Diebold-Mariano test of the diffusion model against it) and writes the picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

import foliocast as fc
from foliocast.models.diffusion.inference import calibration, cross_inference, inference_figure, summary
from foliocast.stats.volatility import VolatilityFilter


def regression_with_garch(
    returns: pd.DataFrame, target: str, given: list[str], times: pd.DatetimeIndex, train: int, refit: int
) -> pd.DataFrame:
    """Least squares on the others' returns of the day, GARCH(1,1) residuals resampled: the baseline to beat."""
    frame, rng, rows = returns[[target, *given]].dropna(), np.random.default_rng(0), {}
    for k, time in enumerate(times):
        t = frame.index.get_loc(time)
        past, today = frame.iloc[t - train : t], frame.iloc[t]
        design = np.column_stack([np.ones(len(past)), past[given].to_numpy()])
        if k % refit == 0:
            beta = np.linalg.lstsq(design, past[target].to_numpy(), rcond=None)[0]
            garch = VolatilityFilter("garch").fit((past[target].to_numpy() - design @ beta)[:, None])
        residual = (past[target].to_numpy() - design @ beta)[:, None]
        sigma, state = garch.filter(residual)
        draws = rng.choice(residual[:, 0] / sigma[:, 0], 500) * garch.sigma(state)[0]
        mean = float(beta[0] + beta[1:] @ today[given].to_numpy())
        rows[time] = summary(mean + draws, float(today[target]))
    return pd.DataFrame.from_dict(rows, orient="index")


def diebold_mariano(a: pd.Series, b: pd.Series) -> float:
    """t of the mean difference of daily scores; negative where ``a`` is better."""
    gap = (a - b).to_numpy()
    return float(gap.mean() / (gap.std(ddof=1) / np.sqrt(len(gap))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prices: a path or the name of a panel that holds the stocks")
    parser.add_argument("--target", default="NVDA")
    parser.add_argument("--given", default="GOOG,MSFT")
    parser.add_argument("--start", default="2013-01-01")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/inference"))
    args = parser.parse_args()
    given = args.given.split(",")
    returns = fc.load_panel(args.data).returns()[[args.target, *given]].dropna()
    models = {
        "diffusion": fc.DiffusionScenarios(),
        "diffusion unet": fc.DiffusionScenarios("unet"),
        "t copula": fc.StudentTCopula(),
    }
    tables = {
        name: cross_inference(model, returns, args.target, given, args.start, 252, args.train, 500, args.every)
        for name, model in models.items()
    }
    times = tables["diffusion"].index
    refit = max(1, 252 // args.every)
    tables["regression + GARCH"] = regression_with_garch(returns, args.target, given, times, args.train, refit)
    for name, table in tables.items():
        row = calibration(table)
        row |= {"crps_bps": 1e4 * row.pop("crps"), "dm_t": diebold_mariano(tables["diffusion"]["crps"], table["crps"])}
        print(json.dumps({"model": name, "days": len(table)} | {k: round(v, 3) for k, v in row.items()}))
    args.out.mkdir(parents=True, exist_ok=True)
    figure = inference_figure(tables["diffusion"], returns, args.target, given)
    figure.write_html(args.out / "inference.html", include_plotlyjs=True)


if __name__ == "__main__":
    main()
