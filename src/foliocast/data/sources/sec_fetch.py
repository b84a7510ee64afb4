"""Filings from SEC EDGAR, within its rules: a declared user agent and at most ten requests a second.

See "Accessing EDGAR Data" of the SEC. Standard library only; files are cached and written whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from foliocast.core.errors import ConfigError, DataError
from foliocast.data.sources.holdings import Holdings, combine
from foliocast.data.sources.sec_xml import read_13f_xml, read_nport_xml

RETRIES, MAX_BYTES = 4, 512 * 2**20


@dataclass
class EdgarClient:
    """Fetches from EDGAR.

    Parameters
    ----------
    user_agent : str
        Name and e-mail address of who asks; EDGAR refuses requests without.
    cache : path
        Folder where fetched files stay; a filing never changes, so it is fetched once.
    rate : float
        Requests a second, at most 10.
    archives, data : str
        Roots of the two services.
    clock, sleep : callable
        Of the standard library, handed in so that waiting can be watched.
    """

    user_agent: str
    cache: Path
    rate: float = 8.0
    archives: str = "https://www.sec.gov/Archives/edgar"
    data: str = "https://data.sec.gov"
    timeout: float = 30.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _next: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if not re.search(r"\S+\s+.*\S+@\S+\.\S+|\S+@\S+\.\S+\s+\S+", self.user_agent):
            raise ConfigError(
                f"user_agent = {self.user_agent!r}: EDGAR asks for a name and an e-mail address, "
                "like 'Jane Doe jane@example.com'"
            )
        if not 0 < self.rate <= 10:
            raise ConfigError(f"rate = {self.rate}: EDGAR allows at most 10 requests a second")
        self.cache = Path(self.cache)

    def get(self, url: str) -> bytes:
        """One document, in turn with the rate limit; waits and tries again when EDGAR is busy.

        Raises
        ------
        DataError
            Not found, refused, not reachable, or longer than 512 MiB.
        """
        for attempt in range(RETRIES):
            self._wait()
            request = urllib.request.Request(url, headers={"User-Agent": self.user_agent})
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # EDGAR, by https # nosec B310
                    body = answer.read(MAX_BYTES + 1)
                if len(body) > MAX_BYTES:
                    raise DataError(f"{url} is longer than {MAX_BYTES >> 20} MiB; not fetched")
                return body
            except urllib.error.HTTPError as error:
                if error.code not in (429, 500, 502, 503, 504) or attempt == RETRIES - 1:
                    hint = "; is the user agent a real name and address?" if error.code == 403 else ""
                    raise DataError(f"{url}: EDGAR answered {error.code} {error.reason}{hint}") from None
                asked = error.headers.get("Retry-After", "")
                self.sleep(float(asked) if asked.isdigit() else 2.0**attempt)
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                if attempt == RETRIES - 1:
                    reason = getattr(error, "reason", error)
                    raise DataError(f"{urlsplit(url).netloc} cannot be reached ({reason}); try again later") from None
                self.sleep(2.0**attempt)
        raise AssertionError("unreachable")

    def file(self, url: str) -> Path:
        """The document as a file in the cache."""
        target = self.cache / re.sub(r"[^A-Za-z0-9._-]+", "_", urlsplit(url).path.strip("/"))
        if not target.exists():
            body = self.get(url)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
            partial.write_bytes(body)
            os.replace(partial, target)
        return target

    def filings(self, cik: int | str, forms: tuple[str, ...] = ("13F-HR", "13F-HR/A", "NPORT-P")) -> pd.DataFrame:
        """Filings of a company: ``accession, form, filed, as_of, document, fund_name``, latest first.

        Covers what EDGAR lists as recent (at least a year, or a thousand filings).
        """
        number = _cik(cik)
        answer = _json(self.get(f"{self.data}/submissions/CIK{number:010d}.json"), f"submissions of CIK {number}")
        try:
            recent = pd.DataFrame(answer["filings"]["recent"])
            table = recent[["accessionNumber", "form", "filingDate", "reportDate", "primaryDocument"]].copy()
        except (KeyError, TypeError, ValueError):
            raise DataError(f"EDGAR's list of filings of CIK {number} has an unknown layout") from None
        table.columns = pd.Index(["accession", "form", "filed", "as_of", "document"])
        table["filed"], table["as_of"] = pd.to_datetime(table["filed"]), pd.to_datetime(table["as_of"])
        table["fund_name"] = answer.get("name", str(number))
        return table[table["form"].isin(forms)].reset_index(drop=True)

    def holdings(self, cik: int | str, last: int = 4, tickers: dict[str, str] | None = None) -> Holdings:
        """The last few 13F or N-PORT filings of a company, imported."""
        table = self.filings(cik).head(last)
        if table.empty:
            raise DataError(f"CIK {_cik(cik)} has filed no 13F-HR or NPORT-P that EDGAR lists as recent")
        return combine([self._one(_cik(cik), row, tickers) for row in table.itertuples()])

    def _one(self, cik: int, row: Any, tickers: dict[str, str] | None) -> Holdings:
        folder = f"{self.archives}/data/{cik}/{row.accession.replace('-', '')}"
        if row.form.startswith("NPORT"):
            return read_nport_xml(self.file(f"{folder}/primary_doc.xml"), row.filed)
        listing = _json(self.get(f"{folder}/index.json"), f"index of {row.accession}")
        names = [item["name"] for item in listing.get("directory", {}).get("item", [])]
        tables = [n for n in names if n.lower().endswith(".xml") and n != "primary_doc.xml"]
        if not tables:
            raise DataError(f"filing {row.accession} holds no information table in XML (it may be older than 2013)")
        read = read_13f_xml(self.file(f"{folder}/{tables[0]}"), str(row.fund_name), row.filed, row.as_of, tickers)
        return Holdings(read.frame.assign(accession=row.accession, form=row.form), read.notes)

    def _wait(self) -> None:
        now = self.clock()
        if now < self._next:
            self.sleep(self._next - now)
            now = self._next
        self._next = now + 1.0 / self.rate


def _cik(cik: int | str) -> int:
    try:
        return int(cik)
    except ValueError:
        raise ConfigError(f"cik = {cik!r}: expected the number EDGAR gives a filer, like 1067983") from None


def _json(body: bytes, what: str) -> dict[str, Any]:
    try:
        return json.loads(body)
    except ValueError:
        raise DataError(f"EDGAR's {what} is not the JSON it should be") from None
