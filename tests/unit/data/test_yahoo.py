"""Yahoo through the real yfinance, against a server on loopback.

yfinance remembers answers for the life of the process, so every test asks for tickers of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pandas as pd
import pytest
import requests

from foliocast.core.errors import DataError
from foliocast.data import Catalog, load_panel
from foliocast.data.sources.yahoo import YAHOO, Yahoo, fetch_yahoo

DAYS = pd.bdate_range("2020-01-02", periods=5, tz="America/New_York")


def chart(ticker: str, currency: str, n_bars: int = 5) -> dict:
    """What Yahoo's chart endpoint answers; the adjusted close is half the close."""
    stamps = [int(d.timestamp()) + 34_200 for d in DAYS[:n_bars]]
    close = [100.0 + i for i in range(n_bars)]
    quote = {
        "open": [c - 1 for c in close],
        "high": [c + 1 for c in close],
        "low": [c - 2 for c in close],
        "close": close,
        "volume": [1000 + i for i in range(n_bars)],
    }
    meta = {
        "currency": currency,
        "symbol": ticker,
        "exchangeTimezoneName": "America/New_York",
        "timezone": "EST",
        "gmtoffset": -18000,
        "instrumentType": "EQUITY",
        "dataGranularity": "1d",
        "validRanges": ["1d", "max"],
        "regularMarketTime": stamps[-1] if stamps else 0,
        "firstTradeDate": 0,
        "priceHint": 2,
    }
    indicators = {"quote": [quote], "adjclose": [{"adjclose": [c / 2 for c in close]}]} if n_bars else {"quote": [{}]}
    result = {"meta": meta, "indicators": indicators} | ({"timestamp": stamps} if n_bars else {})
    return {"chart": {"result": [result], "error": None}}


class FakeYahoo:
    """Serves charts; ``limited`` first requests of a chart are answered with 429."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.limited = 0
        self.bars = {"GONE": 0}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlparse(self.path).path
                if "/chart/" not in path:
                    return self._say(200, b"crumb")
                ticker = path.rsplit("/", 1)[1]
                fake.asked.append(ticker)
                if fake.limited > 0:
                    fake.limited -= 1
                    return self._say(429, b"Too Many Requests")
                body = chart(ticker, "GBp" if ticker.endswith(".L") else "USD", fake.bars.get(ticker, 5))
                return self._say(200, json.dumps(body).encode())

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Loopback(requests.Session):
    """Sends every request of Yahoo's hosts to the fake, refuses all others."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.trust_env = port, False

    def request(self, method, url, *args, **options):
        found = urlparse(url)
        if not (found.hostname or "").endswith("yahoo.com"):
            raise requests.ConnectionError(f"{found.hostname} is not to be reached in tests")
        local = found._replace(scheme="http", netloc=f"127.0.0.1:{self.port}").geturl()
        return super().request(method, local, *args, **options)


@pytest.fixture
def fake() -> Iterator[FakeYahoo]:
    server = FakeYahoo()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def source(fake: FakeYahoo, tmp_path: Path) -> Yahoo:
    waits: list[float] = []
    yahoo = Yahoo(Loopback(fake.server.server_port), cache=tmp_path, attempts=3, wait=2.0, sleep=waits.append)
    object.__setattr__(yahoo, "waits", waits)
    return yahoo


def test_prices_arrive_adjusted_with_session_dates(source: Yahoo) -> None:
    bars = fetch_yahoo(["aapl", "MSFT"], "2020-01-01", "2020-01-31", source=source)
    card = Catalog().add(bars, "pair", provenance=YAHOO)
    assert (card.currency, card.assets, card.rows) == ("USD", ("AAPL", "MSFT"), 10)
    panel = load_panel("pair")
    assert list(panel.times) == list(DAYS.tz_localize(None))
    np.testing.assert_allclose(panel.array("close")[:, 0], [50, 50.5, 51, 51.5, 52])
    np.testing.assert_allclose(panel.array("open")[0, 0], 99 / 2)
    np.testing.assert_array_equal(panel.array("volume")[:, 1], [1000, 1001, 1002, 1003, 1004])
    assert "not point in time" in panel.notice


def test_dates_default_to_all_of_history(source: Yahoo) -> None:
    assert len(fetch_yahoo(["EVER"], source=source)) == 5


def test_rate_limit_is_waited_out(fake: FakeYahoo, source: Yahoo) -> None:
    fake.limited = 3  # yfinance itself tries twice within an attempt
    bars = source.bars(["LIMA"], "2020-01-01", "2020-01-31")
    assert len(bars) == 5
    assert source.waits == [2.0]


def test_rate_limit_that_stays_is_said(fake: FakeYahoo, source: Yahoo) -> None:
    fake.limited = 1000
    with pytest.raises(DataError, match=r"no prices of LIMB .* after 3 attempts: it limits the rate of requests"):
        source.bars(["LIMB"], "2020-01-01", "2020-01-31")
    assert source.waits == [2.0, 4.0]


def test_one_empty_answer_fails_the_whole_fetch(fake: FakeYahoo, source: Yahoo) -> None:
    with pytest.raises(DataError, match=r"no prices of GONE .* answered without prices; check the symbol"):
        fetch_yahoo(["HERE", "GONE"], "2020-01-01", "2020-01-31", source=source)


def test_second_fetch_needs_no_network(fake: FakeYahoo, source: Yahoo) -> None:
    once = source.bars(["TWICE"], "2020-01-01", "2020-01-31")
    asked = len(fake.asked)
    again = source.bars(["TWICE"], "2020-01-03", "2020-01-06")
    assert len(fake.asked) == asked
    assert list(again.times) == list(once.times[1:3])
    source.bars(["TWICE"], "2019-01-01", "2020-01-31")
    assert len(fake.asked) > asked


def test_damaged_cache_is_asked_for_again(fake: FakeYahoo, source: Yahoo, tmp_path: Path) -> None:
    source.bars(["HURT"], "2020-01-01", "2020-01-31")
    (tmp_path / "HURT.parquet").write_bytes(b"PAR1 nothing")
    assert len(source.bars(["HURT"], "2020-01-01", "2020-01-31")) == 5


def test_currencies_are_not_mixed(source: Yahoo) -> None:
    with pytest.raises(DataError, match=r"mixed currencies: DOLLAR in USD, VOD\.L in GBp"):
        source.bars(["DOLLAR", "VOD.L"], "2020-01-01", "2020-01-31")


def test_unreachable_host_is_said(tmp_path: Path) -> None:
    class Down(requests.Session):
        def request(self, *args, **options):
            raise requests.ConnectionError("no route")

    with pytest.raises(DataError, match=r"it cannot be reached \(ConnectionError\); check the network"):
        Yahoo(Down(), cache=tmp_path, attempts=2, sleep=lambda _: None).bars(["DOWN"], "2020-01-01", "2020-01-31")
