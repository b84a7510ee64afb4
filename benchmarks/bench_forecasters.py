"""Forecasters: do bands hold, is the spread better than filtered historical simulation, how fast is training.

``python benchmarks/bench_forecasters.py coverage | crps [FILE [EVERY]] | speed | walk`` prints one table each. ``crps``
takes a file of opens, highs, lows and closes instead of the embedded closes: models are fitted on all its stocks that
are quoted throughout, and every eighth or so of them is asked about. ``speed`` runs the peer, neuralforecast, in the
interpreter named by FOLIOCAST_PEERS_PYTHON on the same data, architecture and loss, and compares process CPU time per
training step on one thread; it says so if there is no peer.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

import foliocast as fc  # noqa: E402

YEAR, TEN_YEARS = 252, 2520
LEVELS = (0.8, 0.9, 0.95)


# ---- do bands hold --------------------------------------------------------------------------------------------------


def coverage(first: str = "2015-01-02") -> pd.DataFrame:
    """Coverage of raw and calibrated bands on every stock of the sample, a forecast a day, refitted every year.

    A row a horizon and level: pooled coverage of the bands as simulated, and the largest distance of any one stock from
    the nominal level, raw and calibrated. A forecast is judged by the bands in force when it was made.
    """
    from foliocast.models.conformal import AdaptiveConformal, past_pits

    panel, horizons = fc.load_panel("sample"), (1, 5, 20)
    start = panel.position(first)
    found = []
    for begin in range(start - YEAR, len(panel) - 1, YEAR):
        law = fc.NaiveForecaster("mean", n_paths=400).fit(panel.rows(max(0, begin + 1 - TEN_YEARS), begin + 1))
        days = np.arange(begin, min(begin + YEAR, len(panel) - 1))
        found.append(past_pits(law, panel, days, max(horizons))[:, [h - 1 for h in horizons]])
    pits, rows = np.concatenate(found), []
    for k, h in enumerate(horizons):
        known = YEAR - h + 1  # outcomes known at the first day that is judged
        tracker = AdaptiveConformal(LEVELS, horizon=h, start="pooled").fit(pits[:known, k])
        before, seen = tracker.hits_.copy(), tracker.seen_.copy()
        tracker.partial_fit(pits[known:, k])
        calibrated = (tracker.hits_ - before) / (tracker.seen_ - seen)
        judged = pits[known:, k]
        for number, level in enumerate(LEVELS):
            raw = np.array([np.mean(np.abs(u[np.isfinite(u)] - 0.5) <= level / 2) for u in judged.T])
            rows.append(
                {
                    "horizon": h,
                    "level": level,
                    "raw, pooled": raw.mean(),
                    "raw, worst stock": np.abs(raw - level).max(),
                    "calibrated, pooled": calibrated[number].mean(),
                    "calibrated, worst stock": np.abs(calibrated[number] - level).max(),
                    "forecasts a stock": int(np.isfinite(judged).all(axis=1).sum()),
                }
            )
    return pd.DataFrame(rows)


# ---- is the spread better -------------------------------------------------------------------------------------------


REFERENCE = "FHS, GJR (reference)"
MAKERS: dict[str, Callable[[], Any]] = {
    REFERENCE: lambda: fc.FilteredHistoricalSimulation("gjr", random_state=0),
    "mean, blend": lambda: fc.NaiveForecaster("mean", n_paths=PATHS),
    "shrunk mean, blend": lambda: fc.NaiveForecaster("shrunk", n_paths=PATHS),
    "shrunk mean, departures": lambda: fc.NaiveForecaster("shrunk", n_paths=PATHS, volatility="departures"),
    "linear, departures": lambda: fc.LinearForecaster(n_paths=PATHS, volatility="departures"),
}
PATHS = 1000  # of every model: fewer cost score, about 1 / n of it


def crps_scores(panel: Any, asked: list[str], begin: int, end: int, every: int) -> dict[str, np.ndarray]:
    """CRPS (origin, horizon 1 and 7, asset asked) of every model, fitted before ``begin``, at origins up to ``end``.

    The forecasters are fitted on all assets of the panel, the reference asset by asset on those asked.
    """
    known = panel.rows(max(0, begin - TEN_YEARS), begin)
    rows = range(begin, min(end, len(panel) - 7), every)
    out, some = {}, panel.select(asked)
    for name, make in MAKERS.items():
        spent = time.process_time()
        model = make().fit(known.select(asked).returns() if name == REFERENCE else known)
        out[name] = np.array([_crps_at(model, some, row) for row in rows])
        spent = time.process_time() - spent
        print(
            f"{panel.times[begin].date()} {name}: {len(rows)} origins, {spent:.0f} CPU s", file=sys.stderr, flush=True
        )
    return out


def crps_table(panel: Any, asked: list[str], every: int = 10, start: int = TEN_YEARS) -> pd.DataFrame:
    """CRPS over 1 and 7 bars beside FHS with a GJR filter on closes, each stock in units of its own deviation.

    All are fitted on the same rows, anew every four years, and forecast from the same days; p is two-sided,
    Diebold-Mariano.
    """
    folds = [
        crps_scores(panel, asked, begin, begin + 4 * YEAR, every) for begin in range(start, len(panel) - 7, 4 * YEAR)
    ]
    scale = np.nanstd(panel.select(asked).return_array()[:start], axis=0)
    return crps_summary({name: np.concatenate([fold[name] for fold in folds]) / scale for name in MAKERS})


def crps_summary(scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """Means over assets and origins, and the difference to the reference."""
    from foliocast.stats.inference import diebold_mariano

    table, other = [], scores[REFERENCE].mean(axis=2)
    for name, found in scores.items():
        mean = found.mean(axis=2)  # (origin, horizon)
        row: dict[str, Any] = {"model": name, "origins": len(mean)}
        for k, h in enumerate((1, 7)):
            row[f"CRPS {h}"] = mean[:, k].mean()
            row[f"to reference {h}"] = f"{mean[:, k].mean() / other[:, k].mean() - 1:+.2%}"
            row[f"p {h}"] = 1.0 if name == REFERENCE else diebold_mariano(mean[:, k], other[:, k], lags=5).p_value
        table.append(row)
    return pd.DataFrame(table)


def _crps_at(model: Any, panel: Any, row: int) -> np.ndarray:
    """(horizon 1 and 7, asset) of compounded returns."""
    from foliocast.stats.scoring import crps

    view = panel.rows(max(0, row + 1 - TEN_YEARS), row + 1)
    if isinstance(model, fc.FilteredHistoricalSimulation):
        samples = model.simulate(view.returns(), horizon=7, n_scenarios=PATHS, random_state=row).returns
    else:
        samples = model.forecast(view.asof(view.times[-1]), 7).samples
    wealth, close = np.cumprod(1.0 + samples, axis=1), panel.array("close")
    return np.array([crps(wealth[:, h - 1] - 1.0, close[row + h] / close[row] - 1.0) for h in (1, 7)])


# ---- how fast is training -------------------------------------------------------------------------------------------

PEER = """
import json, logging, sys, time, warnings
warnings.filterwarnings("ignore"); logging.disable(logging.WARNING)
import numpy as np, pandas as pd
try:
    import pytorch_lightning, torch, neuralforecast
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM, PatchTST
except ImportError as error:
    print(json.dumps({"absent": str(error)})); raise SystemExit
torch.set_num_threads(1)
data = np.load(sys.argv[1])
returns, steps, only = data["returns"], int(data["steps"]), str(data["only"])
n, k = returns.shape
frame = pd.DataFrame({"unique_id": np.repeat([f"s{i}" for i in range(k)], n), "y": returns.T.ravel(),
    "ds": np.tile(pd.bdate_range("1990-01-01", periods=n), k)})
spent = []
class Clock(pytorch_lightning.Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_step == 2:
            self.start = time.process_time()
    def on_train_end(self, trainer, module):
        spent.append((time.process_time() - self.start) / (steps - 2))
common = dict(h=1, input_size=60, loss=MSE(), batch_size=32, max_steps=steps, val_check_steps=10**6, random_seed=1,
    scaler_type="identity", enable_progress_bar=False, logger=False, enable_checkpointing=False,
    enable_model_summary=False, accelerator="cpu", callbacks=[Clock()])
made = {"lstm": lambda: LSTM(encoder_n_layers=2, encoder_hidden_size=64, decoder_layers=1, windows_batch_size=128,
        **common),
    "patches": lambda: PatchTST(encoder_layers=3, n_heads=16, hidden_size=128, linear_hidden_size=256, patch_len=16,
        stride=8, dropout=0.0, fc_dropout=0.0, revin=False, res_attention=False, windows_batch_size=1024, **common)}
NeuralForecast([made[only]()], freq="B").fit(frame)
print(json.dumps({"version": neuralforecast.__version__, "seconds": spent[-1]}))
"""
SIZES = {"lstm": 128, "patches": 1024}  # windows in a batch


def speed(steps: int = 12, rounds: int = 3) -> pd.DataFrame:
    """CPU seconds a training step, ours and the peer's in turn; medians over rounds."""
    panel = fc.load_panel("sample:sp500")
    returns = (100.0 * panel.return_array()[1:]).astype(np.float32)
    rows = []
    for name in SIZES:
        pairs = []
        for _ in range(rounds):
            peer = _peer(returns, steps, name)
            if "absent" in peer:
                print(f"no peer: {peer['absent']}; set FOLIOCAST_PEERS_PYTHON", file=sys.stderr)
            pairs.append((_ours(returns, steps, name), peer.get("seconds", float("nan"))))
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        rows.append(
            {
                "network": name,
                "batch": SIZES[name],
                "ours, ms": 1e3 * ours,
                "neuralforecast, ms": 1e3 * theirs,
                "ratio": statistics.median(b / a for a, b in pairs),
                "samples a CPU second": SIZES[name] / ours,
            }
        )
    return pd.DataFrame(rows)


def _ours(returns: np.ndarray, steps: int, name: str) -> float:
    """CPU seconds a step of the common loop, from windows in memory to updated weights."""
    import torch

    from foliocast.features.windows import Windows
    from foliocast.models.lstm import LSTMNet
    from foliocast.models.network import WindowSamples
    from foliocast.models.training import TrainingSpec, train
    from foliocast.models.transformer import PatchTransformer
    from foliocast.models.windowed import Supervised

    torch.set_num_threads(1)
    length = 60 if name == "lstm" else 64  # the peer pads 60 bars to seven patches, which 64 hold
    windows = Windows.complete(returns[:-1, :, None], length)
    samples = WindowSamples(Supervised(windows, returns[windows.ends + 1, windows.assets]))
    net = LSTMNet(1, 64, 2) if name == "lstm" else PatchTransformer(1, length, 16, 8, 128, 3, 16)
    spec = TrainingSpec(batch_size=SIZES[name], epochs=1, amp="auto", lr=1e-3)

    def loss(module: Any, batch: tuple[Any, ...], generator: Any) -> Any:
        return ((module(batch[0])[:, 0] - batch[1]) ** 2).mean()

    from dataclasses import replace

    train(net, samples, loss, replace(spec, max_steps=2))
    start = time.process_time()
    train(net, samples, loss, replace(spec, max_steps=steps))
    return (time.process_time() - start) / steps


def _peer(returns: np.ndarray, steps: int, only: str) -> dict[str, Any]:
    python = os.environ.get("FOLIOCAST_PEERS_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "in.npz"
        np.savez(data, returns=returns, steps=steps, only=only)
        done = subprocess.run([python, "-c", PEER, str(data)], capture_output=True, text=True, cwd=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"absent": done.stderr.strip().splitlines()[-1:] or "no answer"}


def walk_forward_cpu() -> pd.DataFrame:
    """CPU seconds to fit `AttentionLSTM` in its default size on every fold of the sample (504 / 63) and predict."""
    panel, model = fc.load_panel("sample"), fc.AttentionLSTM()
    folds = fc.WalkForward().folds(len(panel))
    start, steps = time.process_time(), 0
    for fold in folds:
        fitted = model.fit(panel.rows(*fold.train))
        fitted.predict(panel.rows(0, fold.test[1]), panel.times[fold.test[0] : fold.test[1]])
        steps += fitted.training_["*"].steps
    spent = time.process_time() - start
    return pd.DataFrame([{"folds": len(folds), "steps": steps, "CPU seconds": spent, "on two cores": spent / 2}])


def main() -> None:
    """One table by its name."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("coverage", "crps", "speed", "walk"):
        raise SystemExit("usage: bench_forecasters.py coverage | crps [FILE [EVERY]] | speed | walk")
    what = sys.argv[1]
    if what == "coverage":
        tables = {"Bands of the sample's stocks": coverage()}
    elif what == "speed":
        tables = {"Training, equal architecture, data and loss": speed()}
    elif what == "walk":
        tables = {"Walk-forward of the attention LSTM": walk_forward_cpu()}
    else:
        every = int(sys.argv[3]) if len(sys.argv) > 3 else 10
        panel = fc.load_panel(sys.argv[2], allow_jumps=True) if len(sys.argv) > 2 else fc.load_panel("sample:sp500")
        whole = [a for a, ok in zip(panel.assets, np.isfinite(panel.array("close")).all(axis=0)) if ok]
        asked = whole[:: max(1, len(whole) // 40)]
        title = f"{panel.name}, {len(asked)} of {len(whole)} stocks"
        tables = {title: crps_table(panel.select(whole), asked, every)}
    for title, table in tables.items():
        print(f"\n{title}")
        print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
