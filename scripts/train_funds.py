"""Train the packaged fund generator from a folder of development data.

python scripts/train_funds.py DATA --out src/foliocast/models/funds/weights/default
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

from foliocast.data.funds import FundCorpus, build_corpus, canonical_ticker
from foliocast.data.sources.holdings import Holdings, combine, from_table, map_tickers, read_ishares, read_plain
from foliocast.features.funds import sector_name
from foliocast.models.funds.generator import FundGenerator

LAST = pd.Timestamp("2024-12-31")
PERMANENT = ["buffett", "munger", "watsa", "gayner", "bloomstran"]
HEDGE = [
    "abrams",
    "ainslie",
    "altarockpartners",
    "armitage",
    "berkowitz",
    "burry",
    "cantillon",
    "coleman",
    "cooperman",
    "dalio",
    "dorsey",
    "druckenmiller",
    "duan",
    "einhorn",
    "gates",
    "greenbrier",
    "greenberg",
    "gregalexander",
    "haley",
    "hohn",
    "hong",
    "kantesaria",
    "karr",
    "lawrence",
    "lilu",
    "lou",
    "makaira",
    "mandel",
    "marks",
    "miller",
    "peltz",
    "roepers",
    "soros",
    "sosin",
    "tangen",
    "tarasoff",
    "triplefrond",
    "ubben",
    "viking",
    "vinall",
    "welling",
    "wyden",
    "lee",
]
ACTIVIST = ["hohn", "peltz", "ubben", "welling", "roepers", "einhorn"]
QUANT = ["dalio", "greenblatt"]


def assemble(folder: Path) -> FundCorpus:
    """The corpus of the packaged model: 13F managers, growth funds, country ETFs, top tens of mutual funds, IVV."""
    funds = folder / "funds"
    managers = map_tickers(read_plain(funds / "managers_13f_holdings.parquet")).holdings
    growth = read_plain(funds / "growth_managers_quarterly_2019_2025.parquet", form="mutual-fund")
    country = pd.read_parquet(funds / "ishares_country_etf_holdings_2012_2026.parquet")
    countries = from_table(country, "country ETFs", form="ETF")
    countries = Holdings(countries.frame.assign(ticker=countries.frame["ticker"].str.upper()))
    parts = [managers, growth, countries, _top_tens(funds), read_ishares(funds / "raw_ishares_IVV_2024-12-06.csv")]
    everything = combine(parts)
    recent = everything.frame["known_at"] <= LAST
    return build_corpus(
        Holdings(everything.frame[recent]),
        _descriptors(funds, country),
        _sectors(folder),
        _prices(folder),
        _sizes(funds),
    )


def _top_tens(funds: Path) -> Holdings:
    """One share class of each strategy; its top ten positions as a portfolio of ten names."""
    described = pd.read_parquet(funds / "mutual_funds_2021_descriptions.parquet")
    top = pd.read_parquet(funds / "mutual_funds_2021_top10.parquet")
    top = top[top["ticker"].notna() & (top["weight"] > 0)]
    # Tickers of money-market and affiliated funds inside a top ten (five letters ending in X) are cash, not shares.
    top = top[~top["ticker"].str.fullmatch(r"[A-Z]{4}X")]
    counts = top.groupby("fund_id")["ticker"].nunique()
    described = described[described["fund_id"].map(counts).fillna(0) >= 5].drop_duplicates("investment_strategy")
    top = top[top["fund_id"].isin(described["fund_id"])]
    table = top.assign(fund="mf" + top["fund_id"].astype(str), as_of="2021-06-30", known_at="2021-08-29")
    return from_table(
        table[["fund", "as_of", "known_at", "ticker", "holding", "weight"]], "top tens", form="mutual-fund"
    )


def _descriptors(funds: Path, country: pd.DataFrame) -> pd.DataFrame:
    managers = pd.read_parquet(funds / "managers_13f_holdings.parquet", columns=["manager"])["manager"].astype(str)
    rows: dict[str, dict[str, str]] = {m: {"manager": m} for m in managers.unique()}
    for names, key, value in (
        (PERMANENT, "legal_type", "closed-end"),
        (HEDGE, "legal_type", "hedge-fund"),
        (ACTIVIST, "strategy", "activist"),
        (QUANT, "strategy", "quantitative"),
    ):
        for name in names:
            rows.get(name, {})[key] = value
    for name in ("Mgr_A", "Mgr_B", "Mgr_C", "Mgr_LS"):
        rows[name] = {"style": "growth"}
    for etf, group in country.groupby("etf"):
        nation = str(group["etf_name"].iloc[0]).removeprefix("iShares MSCI ").removesuffix(" ETF").lower()
        rows[str(etf)] = {"geography": nation, "strategy": "index", "manager": "ishares"}
    rows["IVV"] = {"manager": "ishares", "strategy": "index", "cap": "large-cap", "style": "blend", "geography": "us"}
    described = pd.read_parquet(funds / "mutual_funds_2021_descriptions.parquet")
    for row in described.itertuples():
        name = str(row.fund_long_name)
        family = str(row.fund_family).lower()
        rows[f"mf{row.fund_id}"] = {"text": name, "manager": family}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _sectors(folder: Path) -> dict[str, str]:
    growth = pd.read_parquet(folder / "funds" / "growth_managers_quarterly_2019_2025.parquet").dropna(subset=["ticker"])
    gics = pd.read_csv(folder / "equities" / "sp500_constituents_gics.csv")
    out = dict(zip(canonical_ticker(growth["ticker"]), growth["sector"].map(sector_name)))
    out |= dict(zip(canonical_ticker(gics["Symbol"]), gics["GICS Sector"].map(sector_name)))
    return {ticker: sector for ticker, sector in out.items() if sector}


def _sizes(funds: Path) -> dict[str, float]:
    """Rank in the S&P 500 by value, 1 for the first, 0.6 for the last."""
    index = read_ishares(funds / "raw_ishares_IVV_2024-12-06.csv").frame
    index = index[index["asset_class"] == "Equity"].sort_values("weight", ascending=False)
    tickers = canonical_ticker(index["ticker"])
    return {ticker: 1.0 - 0.4 * i / len(tickers) for i, ticker in enumerate(tickers)}


def _prices(folder: Path) -> pd.DataFrame:
    file = folder / "equities" / "sp500_ohlcv_adj_2000_2022.parquet"
    long = pd.read_parquet(file, columns=["date", "ticker", "close"])
    return long.pivot(index="date", columns="ticker", values="close").loc["2011":]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of development data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--corpus", type=Path, help="also save the corpus there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    corpus = assemble(args.data)
    if args.corpus is not None:
        corpus.save(args.corpus)
    print(f"{len(corpus)} filings of {corpus.filings['fund'].nunique()} funds, {len(corpus.securities)} securities")
    started = time.time()

    def report(part: str, row: dict[str, float]) -> None:
        took = f"{time.time() - started:.0f} s, {time.process_time():.0f} s of processor"
        print(f"{part} {row['epoch']:.0f}: {row['train_loss']:.4f} ({took})", flush=True)

    card = FundGenerator().fit(corpus, report).save(args.out)
    print(f"saved to {args.out}: knows filings up to {card.knowledge_until}")


if __name__ == "__main__":
    main()
