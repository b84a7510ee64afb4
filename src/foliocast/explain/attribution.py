"""Where the money and the risk of an account came from: by asset, cost, factor, regime and feature; all sums exact.

Everything starts from one table of money: what each asset, each kind of cost and the financing added to the equity at
each bar. Its sum over a bar is the change of equity at that bar, to rounding; every attribution below is a regrouping
of this table, so that each adds up to the same total.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError

COSTS = ("commission", "spread", "impact")
FINANCING = "financing"
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Flows:
    """What moved the equity, bar by bar, in units of the starting equity.

    Attributes
    ----------
    prices : DataFrame (time x asset)
        Gains from prices, before any cost.
    costs : DataFrame (time x kind)
        Commission, spread, impact and financing, negative when paid.
    cost_by_asset : DataFrame (time x asset)
        The first three again, by asset.
    money : DataFrame (time x asset)
        Value held over the bar, at its start.
    returns : DataFrame (time x asset)
        Simple returns of the last known prices; zero where nothing moved.
    equity : Series (time)
    """

    prices: pd.DataFrame
    costs: pd.DataFrame
    cost_by_asset: pd.DataFrame
    money: pd.DataFrame
    returns: pd.DataFrame
    equity: pd.Series

    @property
    def total(self) -> float:
        """Change of equity over the whole account."""
        return float(self.prices.to_numpy().sum() + self.costs.to_numpy().sum())

    def bars(self) -> pd.Series:
        """Change of equity of each bar."""
        return self.prices.sum(axis=1) + self.costs.sum(axis=1)


def account_flows(
    trades: pd.DataFrame, marks: pd.DataFrame, equity: pd.Series, financing: pd.DataFrame | None = None
) -> Flows:
    """Split the change of equity of every bar into gains of assets and costs.

    Parameters
    ----------
    trades : DataFrame
        One row a fill: date, asset, units, price, commission, spread, impact.
    marks : DataFrame (time x asset)
        Closes at the bars of ``equity``; NaN where there is no quote (the last one stands).
    equity : Series (time)
        Of the account, 1.0 before its first trade.
    financing : DataFrame, optional
        date, borrow, funding, interest; negative is paid.

    Raises
    ------
    DataError
        The pieces do not add up to the equity: trades, prices and equity are not of one account.
    """
    times, assets = pd.DatetimeIndex(equity.index), list(marks.columns)
    price = marks.reindex(times).ffill().to_numpy(float)
    row, column = (
        times.get_indexer(pd.DatetimeIndex(trades["date"])),
        pd.Index(assets).get_indexer(pd.Index(trades["asset"])),
    )
    if (row < 0).any() or (column < 0).any():
        raise DataError("a trade is dated outside the equity curve or names an asset without prices")
    shape = (len(times), len(assets))
    units, gain = np.zeros(shape), np.zeros(shape)
    np.add.at(units, (row, column), trades["units"].to_numpy(float))
    held = np.cumsum(units, axis=0)
    money, moves = np.zeros(shape), np.zeros(shape)
    money[1:] = held[:-1] * np.nan_to_num(price[:-1])
    moves[1:] = np.nan_to_num(price[1:] / price[:-1] - 1.0)
    gain[1:] = held[:-1] * np.nan_to_num(np.diff(price, axis=0))
    fill = trades["units"].to_numpy(float) * (price[row, column] - trades["price"].to_numpy(float))
    np.add.at(gain, (row, column), fill)
    paid, by_asset = np.zeros((len(times), len(COSTS) + 1)), np.zeros(shape)
    for k, kind in enumerate(COSTS):
        amount = -trades[kind].to_numpy(float)
        paid[:, k] = np.bincount(row, amount, len(times))
        np.add.at(by_asset, (row, column), amount)
    if financing is not None and len(financing):
        when = times.get_indexer(pd.DatetimeIndex(financing["date"]))
        amount = financing[["borrow", "funding", "interest"]].to_numpy(float).sum(axis=1)
        paid[:, -1] = np.bincount(when, amount, len(times))
    for table in (gain, paid, by_asset):  # what the very first close costs is on record with the bar after it
        table[1:2] += table[:1]
        table[0] = 0.0
    gains, cost, value, returns = (pd.DataFrame(a, index=times, columns=assets) for a in (gain, by_asset, money, moves))
    made = Flows(gains, pd.DataFrame(paid, index=times, columns=[*COSTS, FINANCING]), cost, value, returns, equity)
    _same_account(made)
    return made


def _same_account(flows: Flows) -> None:
    level = 1.0 + flows.bars().cumsum()
    miss = (level - flows.equity).abs() / flows.equity.abs().clip(lower=1e-12)
    if float(miss.max()) > 1e-6:
        when = int(miss.to_numpy().argmax())
        raise DataError(
            f"the trades and prices lead to an equity of {level.iloc[when]:.6g} at {level.index[when]}, the record "
            f"says {flows.equity.iloc[when]:.6g}; the data have changed since the run, or the run is damaged"
        )


def attribute_money(flows: Flows) -> pd.DataFrame:
    """Profit and loss by asset (after its costs) and by cost; columns ``by``, ``name``, ``value``; each sums to
    ``flows.total``."""
    return pd.concat([summed(asset_flows(flows), "asset"), summed(cost_flows(flows), "cost")], ignore_index=True)


def asset_flows(flows: Flows) -> pd.DataFrame:
    """Money of each asset after its costs, and financing, at each bar."""
    return (flows.prices + flows.cost_by_asset).assign(**{FINANCING: flows.costs[FINANCING]})


def attribute_by(flows: Flows, labels: pd.Series, by: str) -> pd.DataFrame:
    """Profit and loss by a label of each bar (a regime, a year); bars without one are "none"."""
    found = labels.reindex(flows.equity.index).astype(object)
    named = found.where(found.notna(), "none").astype(str)
    sums = flows.bars().groupby(named).sum()
    return pd.DataFrame({"by": by, "name": sums.index.astype(str), "value": sums.to_numpy()})


def statistical_factors(returns: pd.DataFrame, n: int = 3) -> pd.DataFrame:
    """The market (mean of all assets) and the largest principal components of what it leaves, (time x factor)."""
    values = returns.fillna(0.0).to_numpy(float)
    market = values.mean(axis=1)
    power = float(market @ market)
    beta = market @ values / power if power > 0 else np.zeros(values.shape[1])
    left, size, _ = np.linalg.svd(values - np.outer(market, beta), full_matrices=False)
    rest = (left * size)[:, : max(0, min(n, values.shape[1]) - 1)] / np.sqrt(values.shape[1])
    names = ["market", *(f"component {k + 1}" for k in range(rest.shape[1]))]
    return pd.DataFrame(np.column_stack([market, rest]), index=returns.index, columns=names)


def factor_flows(flows: Flows, factors: pd.DataFrame) -> pd.DataFrame:
    """Money that every factor made at each bar: exposure times factor return.

    Parameters
    ----------
    flows : Flows
    factors : DataFrame (time x factor)
        Simple returns; missing bars count as zero. Loadings of the assets are estimated by least squares over the whole
        account: an attribution looks back.

    Returns
    -------
    DataFrame (time x part)
        The factors, "specific" (what the holdings earned beside them), "trading" (fills away from the close) and
        "costs"; a row adds up to the change of equity.
    """
    f = factors.reindex(flows.equity.index).fillna(0.0)
    design = np.column_stack([np.ones(len(f)), f.to_numpy(float)])
    loadings = np.linalg.lstsq(design, flows.returns.to_numpy(), rcond=None)[0][1:]
    money = flows.money.to_numpy()
    parts = (money @ loadings.T) * f.to_numpy(float)
    kept = (money * flows.returns.to_numpy()).sum(axis=1)
    table = pd.DataFrame(parts, index=flows.equity.index, columns=[str(c) for c in factors.columns])
    table["specific"] = kept - parts.sum(axis=1)
    table["trading"] = flows.prices.to_numpy().sum(axis=1) - kept
    table["costs"] = flows.costs.to_numpy().sum(axis=1)
    return table


def feature_flows(flows: Flows, predictions: pd.DataFrame, weights: pd.DataFrame) -> pd.DataFrame:
    """What the model expected to earn through each feature at each bar, and how it turned out otherwise.

    Parameters
    ----------
    flows : Flows
    predictions : DataFrame
        Of one method, as `explain_predictions` gives them: time (of the decision), asset, predicted, base, one column a
        feature, rest.
    weights : DataFrame (time x asset)
        Fractions of equity held at each close.

    Returns
    -------
    DataFrame (time x part)
        For each bar after a time that was explained: money held times what each feature added to the predicted return;
        "base" and "rest" of the model; "surprise": money held times outcome less prediction. "elsewhere" is all other
        money: bars that were not explained, trades between two closes, costs. A row adds up to the change of equity.
    """
    names = [c for c in predictions.columns if c not in ("time", "asset", "method", "predicted")]
    times, assets = flows.equity.index, flows.prices.columns
    row = times.get_indexer(pd.DatetimeIndex(predictions["time"]))
    column = assets.get_indexer(pd.Index(predictions["asset"]))
    used = (row >= 0) & (row < len(times) - 1) & (column >= 0)
    row, column, rows = row[used], column[used], predictions[used]
    held = weights.reindex(index=times, columns=assets).fillna(0.0).to_numpy(float)[row, column]
    money = held * flows.equity.to_numpy(float)[row]
    table = pd.DataFrame(0.0, index=times, columns=[*names, "surprise"])
    for name in names:
        table[name] = np.bincount(row + 1, money * rows[name].to_numpy(float), len(times))
    earned = np.bincount(row + 1, money * flows.returns.to_numpy()[row + 1, column], len(times))
    table["surprise"] = earned - table[names].sum(axis=1)
    table["elsewhere"] = flows.bars() - table.sum(axis=1)
    return table


def cost_flows(flows: Flows) -> pd.DataFrame:
    """Money before costs, and each kind of cost, at each bar."""
    return pd.concat([flows.prices.sum(axis=1).rename("before costs"), flows.costs], axis=1)


def summed(groups: pd.DataFrame, by: str) -> pd.DataFrame:
    """Profit and loss of each part of a table of money (time x part)."""
    sums = groups.sum()
    return pd.DataFrame({"by": by, "name": sums.index.astype(str), "value": sums.to_numpy()})


def attribute_risk(flows: Flows, groups: pd.DataFrame | None = None, by: str = "asset") -> pd.DataFrame:
    """Variance of the bars' returns by what moved them: covariance of each part with the whole, over the variance.

    Parameters
    ----------
    flows : Flows
    groups : DataFrame (time x part), optional
        Money of each part at each bar, adding up to the bars; default assets after costs, and financing.

    Returns
    -------
    DataFrame
        Columns by, name, value: parts of the standard deviation of a bar (Euler), adding up to it.
    """
    if groups is None:
        groups = asset_flows(flows)
    before = flows.equity.shift(1).fillna(1.0).to_numpy()[:, None]
    parts = (groups.to_numpy(float) / before)[1:]
    whole = parts.sum(axis=1)
    centred = whole - whole.mean()
    deviation = float(np.sqrt((centred**2).mean()))
    shares = (parts - parts.mean(axis=0)).T @ centred / len(whole)
    value = shares / deviation if deviation > 0 else np.zeros(len(shares))
    return pd.DataFrame({"by": by, "name": [str(c) for c in groups.columns], "value": value})


def attribute_risk_by(flows: Flows, labels: pd.Series, by: str) -> pd.DataFrame:
    """The same standard deviation by a label of each bar: squared deviations of its bars over the whole."""
    before = flows.equity.shift(1).fillna(1.0)
    r = (flows.bars() / before).iloc[1:]
    found = labels.reindex(r.index).astype(object)
    named = found.where(found.notna(), "none").astype(str)
    squares = (r - r.mean()) ** 2 / len(r)
    deviation = float(np.sqrt(squares.sum()))
    value = squares.groupby(named).sum() / deviation if deviation > 0 else squares.groupby(named).sum()
    return pd.DataFrame({"by": by, "name": value.index.astype(str), "value": value.to_numpy()})
