"""The trial ledger: every strategy ever evaluated on a data set, so that "the best of" knows of how many.

An append-only file of JSON lines. A trial is a data set and a full specification (strategy, schedule, costs, limits,
execution, seed); running the same thing again adds nothing. A reset is a line of its own: the past stays readable.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foliocast.runtime.files import plain
from foliocast.runtime.home import home, now


@dataclass(frozen=True)
class Trial:
    """One strategy evaluated once.

    Attributes
    ----------
    data : str
        Hash of the data set it was judged on.
    spec : str
        Hash of everything that defines it.
    name : str
    sharpe : float
        Per-bar Sharpe ratio, net of costs (not annualised).
    n_bars : int
    run : str
    """

    data: str
    spec: str
    name: str
    sharpe: float
    n_bars: int
    run: str


def spec_hash(spec: Any) -> str:
    """Identity of a specification: SHA-256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(plain(spec), sort_keys=True).encode()).hexdigest()[:32]


class TrialLedger:
    """Reads and extends the ledger file.

    Parameters
    ----------
    path : Path, optional
        Default ``trials.jsonl`` in the product's home.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = home() / "trials.jsonl" if path is None else path

    def record(self, trials: list[Trial]) -> int:
        """Append those not yet known; returns how many were new."""
        known = {(t.data, t.spec) for t in self._all()}
        new = [t for t in trials if (t.data, t.spec) not in known]
        self._append([{"at": now().isoformat(timespec="seconds"), **asdict(t)} for t in new])
        return len(new)

    def reset(self, data: str, reason: str = "") -> int:
        """Forget the trials of one data set from here on; returns how many stood before."""
        before = len(self.trials(data))
        self._append([{"at": now().isoformat(timespec="seconds"), "reset": data, "reason": reason, "stood": before}])
        return before

    def trials(self, data: str) -> list[Trial]:
        """All trials of a data set since its last reset."""
        return [t for t in self._all() if t.data == data]

    def counts(self) -> dict[str, int]:
        """Trials by data set."""
        out: dict[str, int] = {}
        for trial in self._all():
            out[trial.data] = out.get(trial.data, 0) + 1
        return out

    def _append(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(plain(row)) + "\n" for row in rows)
        # One write to a file opened for appending: two runs at once interleave whole lines, never bytes.
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (("\n" if torn else "") + text).encode())
        finally:
            os.close(handle)

    def _all(self) -> list[Trial]:
        found: list[Trial] = []
        if not self.path.exists():
            return found
        for line in self.path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the torn last line of a machine that lost power; the next append starts a new one
            if "reset" in row:
                found = [t for t in found if t.data != row["reset"]]
            elif {"data", "spec", "name"} <= row.keys():
                sharpe = row.get("sharpe")
                sharpe = float("nan") if sharpe is None else float(sharpe)
                found.append(
                    Trial(row["data"], row["spec"], row["name"], sharpe, row.get("n_bars", 0), row.get("run", ""))
                )
        return found
