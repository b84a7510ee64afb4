"""What columns are called in the wild."""

from __future__ import annotations

import re

DATE = (
    "date",
    "datetime",
    "timestamp",
    "ts",
    "time",
    "day",
    "trade_date",
    "trading_date",
    "session",
    "open_time",
    "sasdate",
)
ASSET = ("ticker", "symbol", "asset", "tic", "contract", "pair", "coin", "instrument", "secid", "permno", "name")
CURRENCY = ("currency", "ccy", "quote_currency")
KNOWN_AT = ("known_at", "available_at", "knowledge_date")
FIELD = {
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "close_last": "close",
    "adj_close": "adj_close",
    "adjclose": "adj_close",
    "adjusted": "adj_close",
    "adjusted_close": "adj_close",
    "close_adjusted": "adj_close",
    "close_adj": "adj_close",
    "volume": "volume",
    "vol": "volume",
}
PRICE = ("price", "last", "value", "close_price", "px_last")


def plain(header: str) -> str:
    """Lower case, words joined by one underscore: "<Adj Close*>" -> "adj_close"."""
    return re.sub(r"[^0-9a-zA-Z]+", "_", header).strip("_").lower()


def first_of(headers: list[str], wanted: tuple[str, ...]) -> int | None:
    """Position of the header that comes first in ``wanted``."""
    names = [plain(h) for h in headers]
    return next((names.index(name) for name in wanted if name in names), None)
