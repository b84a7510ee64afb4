"""The corpus of funds: filings x securities, with what was known of each when.

Built from `Holdings`; kept as three Parquet tables. A filing counts as known from its filing date (``known_at``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from foliocast.core.errors import DataError
from foliocast.data.sources.holdings import Holdings
from foliocast.features.funds import (
    FIELDS,
    descriptive,
    market_tags,
    measure,
    sector_from_issuer,
    words_in,
)

GRACE_DAYS, GRACE_DAYS_YEARLY = 120, 400
_TABLES = ("filings.parquet", "securities.parquet", "weights.parquet")


@dataclass(frozen=True)
class FundCorpus:
    """Funds x dates x holdings.

    Parameters
    ----------
    filings : DataFrame
        One row a filing: ``fund, fund_name, form, as_of, known_at, accession``, the descriptive fields
        (`features.funds.FIELDS`, "" where unknown) and the measured tags (NaN where unknown).
    securities : DataFrame, index ticker
        ``issuer, sector, country, size, growth, first, last``: attributes, and the span in which it was seen.
    weights : csr_matrix, shape (filing, security)
        Rows sum to one.
    """

    filings: pd.DataFrame
    securities: pd.DataFrame
    weights: sparse.csr_matrix

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.filings), len(self.securities)):
            raise DataError(
                f"weights have shape {self.weights.shape}, expected ({len(self.filings)}, {len(self.securities)})"
            )

    def __len__(self) -> int:
        return len(self.filings)

    def select(self, rows: np.ndarray) -> FundCorpus:
        """Some filings (mask or positions); the table of securities stays."""
        chosen = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return FundCorpus(self.filings.iloc[chosen].reset_index(drop=True), self.securities, self.weights[chosen])

    def asof(self, date: str | pd.Timestamp) -> FundCorpus:
        """What was known by a date: filings made by then, restated ones in their last version of then."""
        known = self.filings["known_at"] <= pd.Timestamp(date)
        latest = self.filings[known].sort_values("known_at").drop_duplicates(["fund", "as_of"], keep="last")
        return self.select(np.sort(latest.index.to_numpy()))

    def universe(self, date: str | pd.Timestamp) -> np.ndarray:
        """Which securities existed at a date, as far as the filings tell: bool (security,)."""
        return in_universe(self.securities, pd.Timestamp(date))

    def holdings(self, row: int) -> pd.Series:
        """Weights of one filing by ticker, largest first."""
        start, stop = self.weights.indptr[row], self.weights.indptr[row + 1]
        names = self.securities.index[self.weights.indices[start:stop]]
        return pd.Series(self.weights.data[start:stop], index=names).sort_values(ascending=False)

    def save(self, folder: str | Path) -> None:
        """Three Parquet tables in a folder."""
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        coo = self.weights.tocoo()
        self.filings.to_parquet(root / _TABLES[0])
        self.securities.to_parquet(root / _TABLES[1])
        pd.DataFrame({"filing": coo.row, "security": coo.col, "weight": coo.data}).to_parquet(root / _TABLES[2])

    @classmethod
    def load(cls, folder: str | Path) -> FundCorpus:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            The folder is no corpus.
        """
        root = Path(folder)
        missing = [name for name in _TABLES if not (root / name).is_file()]
        if missing:
            raise DataError(f"{root} is no corpus of funds: it lacks {', '.join(missing)}")
        filings, securities, long = (pd.read_parquet(root / name) for name in _TABLES)
        shape = (len(filings), len(securities))
        weights = sparse.csr_matrix((long["weight"], (long["filing"], long["security"])), shape=shape)
        return cls(filings, securities, weights)


def in_universe(securities: pd.DataFrame, date: pd.Timestamp) -> np.ndarray:
    """Securities whose span covers a date."""
    return ((securities["first"] <= date) & (securities["last"] >= date)).to_numpy()


def canonical_ticker(ticker: pd.Series, renamed: Mapping[str, str] | None = None) -> pd.Series:
    """One spelling: upper case, share classes without mark (BRK.B, BRK-B -> BRKB), renamed companies by last name."""
    out = ticker.astype(str).str.strip().str.upper()
    out = out.str.replace(r"^([A-Z]{1,5})[.\-/]([ABC])$", r"\1\2", regex=True)
    return out.replace(dict({"FB": "META"} | dict(renamed or {})))


def build_corpus(
    holdings: Holdings,
    descriptors: pd.DataFrame | None = None,
    sectors: Mapping[str, str] | None = None,
    prices: pd.DataFrame | None = None,
    sizes: Mapping[str, float] | None = None,
    min_names: int = 3,
) -> FundCorpus:
    """Filings x securities from holdings.

    Parameters
    ----------
    holdings : Holdings
        Put/call rows, shorts, derivatives, cash and rows without ticker are left out, the rest is scaled to one.
    descriptors : DataFrame, index fund, optional
        Any of the columns `FIELDS` and ``text`` (a name or prospectus text, from which words are read); wins over
        what the tags say.
    sectors : mapping ticker -> sector, optional
        Securities it lacks are classified by words in the issuer's name, where these tell.
    prices : DataFrame (time x ticker), optional
        For beta, volatility and momentum as of each date.
    sizes : mapping ticker -> float, optional
        1 for the largest companies, falling; others get at most 0.6, by the funds that hold them.
    min_names : int
        Filings with fewer securities are left out.
    """
    frame = holdings.frame
    keep = (frame["weight"] > 0) & (frame["put_call"].astype(str) == "") & (frame["ticker"].astype(str) != "")
    keep &= ~frame["asset_class"].astype(str).str.lower().str.contains("cash|futures|derivative|money market|forward")
    keep &= frame["amendment"].astype(str).str.lower() != "new holdings"
    frame = frame[keep]
    frame = frame.assign(ticker=canonical_ticker(frame["ticker"]))
    filing = frame["fund"].astype(str) + "|" + frame["accession"].astype(str)
    enough = filing.map(frame.groupby(filing)["ticker"].nunique()) >= min_names
    frame, filing = frame[enough], filing[enough]
    if frame.empty:
        raise DataError(f"no filing with {min_names} securities that have a ticker and a weight")
    row, keys = pd.factorize(filing)
    filings = frame.groupby(row)[["fund", "fund_name", "form", "as_of", "known_at", "accession"]].first()
    column, tickers = pd.factorize(frame["ticker"], sort=True)
    weights = sparse.csr_matrix((frame["weight"].to_numpy(float), (row, column)), shape=(len(keys), len(tickers)))
    weights = sparse.csr_matrix(sparse.diags(1.0 / np.asarray(weights.sum(axis=1)).ravel()) @ weights)
    filings = filings.reset_index(drop=True)
    given = _described(filings, descriptors)
    securities = _securities(frame, pd.Index(tickers), sectors or {}, prices)
    securities = _attributes(securities, weights, given, sizes or {})
    return FundCorpus(_tagged(filings, given, weights, securities, prices), securities, weights)


def _described(filings: pd.DataFrame, descriptors: pd.DataFrame | None) -> pd.DataFrame:
    """What is said of each fund, not measured."""
    out = pd.DataFrame("", index=filings.index, columns=list(FIELDS))
    form = filings["form"].astype(str)
    out["legal_type"] = np.select(
        [form.str.startswith("13F"), form.str.startswith("NPORT") | (form == "mutual-fund"), form.str.upper() == "ETF"],
        ["adviser", "mutual-fund", "etf"],
        "",
    )
    if descriptors is None:
        return out
    table = descriptors.reindex(filings["fund"])
    if "text" in table:
        read = [words_in(str(t)) if isinstance(t, str) else {} for t in table["text"]]
        for name in FIELDS[1:]:
            said = np.array([words.get(name, "") for words in read])
            out[name] = np.where(said != "", said, out[name])
    for name in FIELDS:
        if name in table:
            said = table[name].fillna("").to_numpy(str)
            out[name] = np.where(said != "", said, out[name])
    return out


def _securities(
    frame: pd.DataFrame, tickers: pd.Index, sectors: Mapping[str, str], prices: pd.DataFrame | None
) -> pd.DataFrame:
    """Issuer, sector, country and the span in which a security was reported (or priced)."""
    by = frame.groupby("ticker")
    table = pd.DataFrame(index=tickers)
    table["issuer"] = by["issuer"].agg(lambda s: next((x for x in s if x), ""))
    table["sector"] = table.index.map(lambda t: sectors.get(t, ""))
    guessed = np.array(sector_from_issuer(table["issuer"].astype(str).tolist()))
    table["sector_known"] = table["sector"] != ""
    table["sector"] = np.where(table["sector"] != "", table["sector"], guessed)
    foreign = table.index.str.contains(".", regex=False) | table.index.str.match(r"^\d")
    country = by["country"].agg(lambda s: next((x for x in s if x), "")).reindex(tickers).str.lower()
    table["country"] = np.where(foreign, np.where(country == "", "foreign", country), "us")
    first, last = by["as_of"].min().reindex(tickers), by["as_of"].max().reindex(tickers)
    if prices is not None:
        listed = pd.Series({str(name): prices[name].first_valid_index() for name in prices})
        listed.index = canonical_ticker(listed.index.to_series()).to_numpy()
        begun = pd.to_datetime(listed[~listed.index.duplicated()]).reindex(tickers)
        first = first.where(~(begun < first), begun)
    table["first"] = first
    grace = np.where(table["country"] == "us", GRACE_DAYS, GRACE_DAYS_YEARLY)
    end = frame["as_of"].max()
    ends = last + pd.to_timedelta(grace, unit="D")
    table["last"] = ends.where(ends < end, pd.Timestamp("2262-01-01"))
    return table


def _attributes(
    table: pd.DataFrame, weights: sparse.csr_matrix, given: pd.DataFrame, sizes: Mapping[str, float]
) -> pd.DataFrame:
    """Size and growth of securities from the company they keep.

    Funds that call themselves large, mid or small, value or growth, label what they hold; the label of a security is
    the shrunk mean over its holders, and two rounds of averaging carry it to securities no labelled fund holds.
    Growth is centred and scaled over funds (median 0, spread 0.3), for what funds say of themselves leans to growth.
    """
    base = sparse.csr_matrix(weights.sqrt())
    size = _propagated(base, weights, given["cap"].map({"large-cap": 1.0, "mid-cap": 0.5, "small-cap": 0.0}))
    stated = table.index.to_series().map(dict(sizes)).to_numpy(float)
    table["size"] = np.where(np.isfinite(stated), stated, np.minimum(size, 0.6) if sizes else size)
    growth = _propagated(base, weights, given["style"].map({"growth": 1.0, "blend": 0.0, "value": -1.0}))
    tilt = _mean(weights, growth)
    if np.isfinite(tilt).sum() > 2 and np.nanstd(tilt) > 0:
        growth = np.clip((growth - np.nanmedian(tilt)) / np.nanstd(tilt) * 0.3, -1.5, 1.5)
    table["growth"] = growth
    table["holders"] = np.asarray((weights > 0).sum(axis=0)).ravel()
    return table


def _propagated(base: sparse.csr_matrix, weights: sparse.csr_matrix, stated: pd.Series) -> np.ndarray:
    """Labels of funds carried to securities, to funds without label, and to securities again."""
    label = stated.to_numpy(float)
    value = np.full(weights.shape[1], np.nan)
    for _ in range(2):
        known = np.isfinite(label)
        if not known.any():
            return value
        mass = np.asarray(base[known].sum(axis=0)).ravel()
        centre = label[known].mean()
        total = np.asarray(base[known].T @ (label[known] - centre)).ravel()
        value = np.where(mass > 0, centre + total / (mass + 0.3), np.nan)
        label = np.where(np.isfinite(stated.to_numpy(float)), stated.to_numpy(float), _mean(weights, value))
    return value


def _mean(weights: sparse.csr_matrix, value: np.ndarray) -> np.ndarray:
    known = np.isfinite(value)
    share = np.asarray(weights @ known.astype(float)).ravel()
    return np.where(share > 0.3, (weights @ np.where(known, value, 0.0)) / np.maximum(share, 1e-12), np.nan)


def _tagged(
    filings: pd.DataFrame,
    given: pd.DataFrame,
    weights: sparse.csr_matrix,
    securities: pd.DataFrame,
    prices: pd.DataFrame | None,
) -> pd.DataFrame:
    tags = measure(weights, securities)
    derived = descriptive(tags)
    for name in derived:
        given[name] = np.where(given[name] != "", given[name], derived[name])
    given["geography"] = np.where(given["geography"] != "", given["geography"], _geography(weights, securities))
    parts = [filings, given, tags]
    if prices is not None:
        renamed = prices.set_axis(canonical_ticker(prices.columns.to_series()).to_numpy(), axis=1)
        parts.append(market_tags(weights, list(securities.index), list(filings["as_of"]), renamed))
    return pd.concat(parts, axis=1)


def _geography(weights: sparse.csr_matrix, securities: pd.DataFrame) -> np.ndarray:
    """``us`` or a country that makes up nine tenths, ``global`` if at least a tenth is foreign."""
    countries = sorted(set(securities["country"]))
    onehot = np.stack([(securities["country"] == c).to_numpy(float) for c in countries], axis=1)
    share = np.asarray(weights @ onehot)
    lead = np.array(countries)[share.argmax(axis=1)]
    return np.where(share.max(axis=1) >= 0.9, lead, np.where(share.max(axis=1) > 0, "global", ""))
