"""What drove a run: the money and the risk of every strategy taken apart, and the forecasts behind its decisions.

Money and risk follow from the files of the run. Forecasts are explained by the models that made them: the last folds
are fitted again, with the seeds of the run, and have to give the predictions on record before a word is said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.core.time import Fold
from foliocast.explain import attribution
from foliocast.explain.summary import METHODS, Explanation, explain_predictions, joined
from foliocast.runtime.files import plain, whole_folder, write_json
from foliocast.runtime.progress import Report, silent
from foliocast.trading.walkforward import seeded_clone
from foliocast.workflows.config import load_config
from foliocast.workflows.plan import Plan, plan
from foliocast.workflows.report import write_report
from foliocast.workflows.run_tables import Run
from foliocast.workflows.runs import find_run

FOLDER = "explain"
POOL = 500  # dates of the training window that features are taken from


@dataclass(frozen=True)
class ExplainSpec:
    """What to explain.

    Parameters
    ----------
    strategies : tuple of str
        Default: all of the run.
    folds : int
        How many of the last folds are fitted again to explain their forecasts; 0 leaves the forecasts alone.
    methods : tuple of {"gradients", "shap", "permutation"}
        Default: all that apply to the model.
    factors : str, optional
        Data set whose assets are factors, such as "sample:factors"; default the market and two principal components
        of the assets themselves.
    seed : int
    """

    strategies: tuple[str, ...] = ()
    folds: int = 2
    methods: tuple[str, ...] = ()
    factors: str | None = None
    seed: int = 0


def explain(
    run: Path, parent: Path = Path("runs"), spec: ExplainSpec | None = None, report: Report = silent
) -> dict[str, Any]:
    """Explain a finished run; writes the folder ``explain`` into it, and its section into the report.

    Returns
    -------
    dict
        By strategy: ``pnl`` and ``risk`` (by asset, cost, factor, regime: name to value), ``total_pnl``,
        ``volatility``, and where forecasts were explained ``importance`` (method to feature to share) and
        ``reproduced`` (largest difference from the predictions on record).

    Raises
    ------
    ConfigError
        No such run or strategy, or a run that has not ended.
    DataError
        The data are no longer those of the run, or the models fitted again predict otherwise.
    MissingExtraError
        A method needs captum or shap, which are not installed.
    """
    spec = spec or ExplainSpec()
    wrong = [name for name in spec.methods if name not in METHODS]
    if wrong:
        raise ConfigError(f"no method called '{wrong[0]}'; choose from {', '.join(METHODS)}")
    folder = find_run(run, parent)
    if folder.read("run").get("status") != "done":
        raise ConfigError(
            f"run {folder.path.name} has not ended; go on with: foliocast backtest --resume {folder.path}"
        )
    work = plan(load_config(folder.path / "config.toml"))
    if folder.read("run").get("data", {}).get("hash") != work.panel.data_hash:
        raise DataError(f"'{work.panel.name}' has changed since {folder.path.name}; its run can no longer be explained")
    record = Run.read(folder.path)
    names = _chosen(spec.strategies, record)
    factors = _factors(spec.factors, work.panel)
    flows = {name: _flows(name, record, work.panel) for name in names}
    money = pd.concat([_money(name, flows[name], record, factors) for name in names], ignore_index=True)
    learnt = [name for name in names if _forecasts(work.strategies[name])] if spec.folds else []
    found: dict[str, Explanation] = {}
    missed: dict[str, float] = {}
    for number, name in enumerate(learnt):
        report("models", number, len(learnt))
        found[name], missed[name] = _explained(name, work, record, spec)
        money = pd.concat([money, _features(name, found[name], flows[name], record)], ignore_index=True)
    report("models", len(learnt), len(learnt))
    answer = _answer(money, found, missed, names)
    _write(folder.path, money, found, record, answer)
    write_report(folder.path)
    return {"run": folder.path.name, "folder": str(folder.path / FOLDER), "strategies": answer}


def _chosen(wanted: Sequence[str], record: Run) -> list[str]:
    unknown = [name for name in wanted if name not in record.strategies]
    if unknown:
        raise ConfigError(f"the run has no strategy '{unknown[0]}'; it has {', '.join(record.strategies)}")
    return list(wanted or record.strategies)


def _factors(source: str | None, panel: Panel) -> pd.DataFrame:
    if source is None:
        return attribution.statistical_factors(panel.returns())
    from foliocast.data import load_panel

    found = load_panel(source).returns()
    common = found.index.intersection(panel.times)
    if len(common) < 60:
        raise DataError(
            f"'{source}' shares {len(common)} bars with '{panel.name}'; at least 60 are needed for loadings"
        )
    return found


# ---- money and risk
def _flows(name: str, record: Run, panel: Panel) -> attribution.Flows:
    financing = record.of("financing", name)
    return attribution.account_flows(
        record.of("trades", name), panel.close(), record.equity[name], financing if len(financing) else None
    )


def _money(name: str, flows: attribution.Flows, record: Run, factors: pd.DataFrame) -> pd.DataFrame:
    """Attributions of one strategy: strategy, what, by, name, value, share."""
    groups = {
        "asset": attribution.asset_flows(flows),
        "cost": attribution.cost_flows(flows),
        "factor": attribution.factor_flows(flows, factors),
    }
    tables = [attribution.summed(table, by) for by, table in groups.items()]
    risks = [attribution.attribute_risk(flows, table, by) for by, table in groups.items()]
    for by, labels in _labels(record).items():
        tables.append(attribution.attribute_by(flows, labels, by))
        risks.append(attribution.attribute_risk_by(flows, labels, by))
    return pd.concat([_marked(name, "pnl", tables), _marked(name, "risk", risks)], ignore_index=True)


def _labels(record: Run) -> dict[str, pd.Series]:
    """Labels of every bar: its year, and its regime where the run has them."""
    found = {"year": pd.Series(record.dates.year.astype(str), index=record.dates)}
    table = record.of("regimes")
    column = next((c for c in ("rule", "regime") if c in table), None)
    if column is not None:
        found["regime"] = pd.Series(table[column].to_numpy(), index=pd.DatetimeIndex(table["date"]))
    return found


def _marked(name: str, what: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    total = table.groupby("by")["value"].transform("sum")
    share = np.where(total.abs() > 1e-15, table["value"] / total.where(total != 0, 1.0), np.nan)
    return table.assign(strategy=name, what=what, share=share)[["strategy", "what", "by", "name", "value", "share"]]


# ---- forecasts
def _forecasts(strategy: Any) -> bool:
    from foliocast.models.windowed import WindowForecaster

    return isinstance(getattr(strategy, "forecaster", None), WindowForecaster)


def _explained(name: str, work: Plan, record: Run, spec: ExplainSpec) -> tuple[Explanation, float]:
    """The forecasts of the last folds, and how far the models fitted again are from the record."""
    found, missed = [], 0.0
    for fold in work.schedule.folds(len(work.panel))[-spec.folds :]:
        model = seeded_clone(work.strategies[name], work.config.seed, name, fold.number)
        forecaster = model.fit(work.panel.rows(*fold.train)).forecaster_
        parts, difference = _fold(forecaster, work.panel, fold, record.of("predictions", name), spec)
        found += parts
        missed = max(missed, difference)
    return joined(found), missed


def _fold(
    forecaster: Any, panel: Panel, fold: Fold, kept: pd.DataFrame, spec: ExplainSpec
) -> tuple[list[Explanation], float]:
    from foliocast.models.inputs import inputs_of

    rows = panel.rows(fold.train[0], fold.test[1])
    times = panel.times[fold.test[0] - 1 : fold.test[1] - 1]
    first = fold.train[1] - fold.train[0] - 1  # in rows: the bar of the first decision
    reach = forecaster.window + forecaster.feature_set_.lookback
    pool = rows.times[max(0, first - reach - POOL) : max(1, first - forecaster.window)]
    tests, pools = inputs_of(forecaster, rows, times), inputs_of(forecaster, rows, pool)
    record = kept.set_index(["date", "asset"])["prediction"]
    missed, found = 0.0, []
    for test, other in zip(tests, pools):
        wanted = record.reindex(test.index).to_numpy(dtype=float)
        difference = float(np.nanmax(np.abs(test.returns() - wanted))) if np.isfinite(wanted).any() else np.inf
        if difference > 1e-6:
            raise DataError(
                f"the model fitted again for fold {fold.number} predicts otherwise (by {difference:.2g}) than the one "
                "that ran; versions or code have changed since, so its forecasts cannot be explained"
            )
        missed = max(missed, difference)
        found.append(explain_predictions(test, other, spec.methods or None, random_state=spec.seed))
    return found, missed


def _features(name: str, found: Explanation, flows: attribution.Flows, record: Run) -> pd.DataFrame:
    """What was held, times what each feature added to the forecast of it; by SHAP where it was asked for."""
    table = found.predictions
    if table.empty:
        return pd.DataFrame(columns=["strategy", "what", "by", "name", "value", "share"])
    method = "shap" if (table["method"] == "shap").any() else str(table["method"].iloc[0])
    held = record.of("weights", name).pivot(index="date", columns="asset", values="weight")
    groups = attribution.feature_flows(flows, table[table["method"] == method], held)
    pnl, risk = attribution.summed(groups, "feature"), attribution.attribute_risk(flows, groups, "feature")
    return pd.concat([_marked(name, "pnl", [pnl]), _marked(name, "risk", [risk])], ignore_index=True)


# ---- what is left
def _answer(
    money: pd.DataFrame, found: dict[str, Explanation], missed: dict[str, float], names: Sequence[str]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in names:
        rows = money[money["strategy"] == name]
        parts = {
            what: {
                str(by): dict(zip(part["name"], part["value"]))
                for by, part in rows[rows["what"] == what].groupby("by", sort=False)
            }
            for what in ("pnl", "risk")
        }
        out[name] = {
            "total_pnl": sum(parts["pnl"]["asset"].values()),
            "volatility": sum(parts["risk"]["asset"].values()),
            **parts,
        }
        if name in found:
            table = found[name].importance
            out[name]["importance"] = {
                str(method): dict(zip(part["feature"], part["share"])) for method, part in table.groupby("method")
            }
            out[name]["reproduced"] = missed[name]
    return plain(out)


def _write(
    folder: Path, money: pd.DataFrame, found: dict[str, Explanation], record: Run, answer: dict[str, Any]
) -> None:
    """Tables as CSV and the answer as JSON: the whole folder, or none of it."""
    tables = {"attribution": money}
    for kind in ("importance", "lags", "predictions"):
        parts = [getattr(e, kind).assign(strategy=name) for name, e in found.items()]
        parts = [part for part in parts if len(part)]
        if parts:
            tables[kind] = pd.concat(parts, ignore_index=True)
    attention = record.of("attention")
    if len(attention):
        tables["attention"] = attention.groupby(["strategy", "lag"])["weight"].mean().reset_index()
    with whole_folder(folder / FOLDER) as aside:
        for name, table in tables.items():
            table.to_csv(aside / f"{name}.csv", index=False)
        write_json(aside / "explain.json", answer)
