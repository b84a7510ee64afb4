"""Import of a quarter of Form 13F: three million made-up positions, read, added up and weighted, beside pandas' reader.

    python benchmarks/bench_holdings.py [PARQUET]

PARQUET: a plain table of holdings to read as well. Prints processor seconds, peak memory and the ratio to
`pandas.read_csv` of the same table, which only reads.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from foliocast.data.sources.holdings import read_plain
from foliocast.data.sources.sec import read_13f_bulk

FUNDS, ROWS, CUSIPS = 8000, 3_000_000, 25_000


def quarter(folder: Path) -> None:
    """The tables of a quarter in the layout of the SEC."""
    rng = np.random.default_rng(0)
    names = np.array([f"0001{i:06d}-23-{i:06d}" for i in range(FUNDS)])
    tab = csv.WriteOptions(delimiter="\t", quoting_style="none", include_header=False)
    submission = {
        "ACCESSION_NUMBER": names, "FILING_DATE": ["14-NOV-2023"] * FUNDS, "SUBMISSIONTYPE": ["13F-HR"] * FUNDS,
        "CIK": [f"{i:010d}" for i in range(FUNDS)], "PERIODOFREPORT": ["30-SEP-2023"] * FUNDS,
    }  # fmt: skip
    cover = {
        "ACCESSION_NUMBER": names, "ISAMENDMENT": ["N"] * FUNDS, "AMENDMENTTYPE": [""] * FUNDS,
        "FILINGMANAGER_NAME": [f"Manager {i}" for i in range(FUNDS)],
    }  # fmt: skip
    which, shares = rng.integers(0, CUSIPS, ROWS), rng.integers(1, 10**6, ROWS)
    take = lambda values, at: pa.array(values).take(pa.array(at))  # noqa: E731
    same = lambda text: pa.repeat(pa.scalar(text), ROWS)  # noqa: E731
    info = {
        "ACCESSION_NUMBER": take(names.tolist(), np.sort(rng.integers(0, FUNDS, ROWS))),
        "INFOTABLE_SK": np.arange(ROWS),
        "NAMEOFISSUER": take([f"ISSUER NUMBER {i}" for i in range(CUSIPS)], which), "TITLEOFCLASS": same("COM"),
        "CUSIP": take([f"{i:09d}" for i in range(CUSIPS)], which), "FIGI": same(""), "VALUE": shares * 50,
        "SSHPRNAMT": shares, "SSHPRNAMTTYPE": same("SH"),
        "PUTCALL": take(["", "Call"], (rng.random(ROWS) < 0.02).astype(int)), "INVESTMENTDISCRETION": same("SOLE"),
        "OTHERMANAGER": same(""), "VOTING_AUTH_SOLE": shares, "VOTING_AUTH_SHARED": same("0"),
        "VOTING_AUTH_NONE": same("0"),
    }  # fmt: skip
    for name, table in (("SUBMISSION", submission), ("COVERPAGE", cover), ("INFOTABLE", info)):
        with (folder / f"{name}.tsv").open("wb") as file:
            file.write(("\t".join(table) + "\n").encode())
            csv.write_csv(pa.table(table), file, tab)


def timed(label: str, work: object) -> float:
    began, wall = time.process_time(), time.time()
    rows = work()  # type: ignore[operator]
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{label}: {rows:,} rows in {spent:.1f} s of processor, {time.time() - wall:.1f} s by the clock, "
          f"peak so far {peak:.2f} GiB", flush=True)  # fmt: skip
    return spent


def main() -> None:
    if len(sys.argv) > 1:
        timed(f"read_plain {Path(sys.argv[1]).name}", lambda: len(read_plain(sys.argv[1]).frame))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quarter(folder)
        own = timed("read_13f_bulk", lambda: len(read_13f_bulk(folder).frame))
        peer = timed("pandas.read_csv", lambda: len(pd.read_csv(folder / "INFOTABLE.tsv", sep="\t", dtype=str)))
        print(f"import takes {own / peer:.2f} of the time in which pandas reads the positions")


if __name__ == "__main__":
    main()
