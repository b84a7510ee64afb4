from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from foliocast.core.errors import DataError
from foliocast.workflows.report import write_report
from foliocast.workflows.report_parts import number
from foliocast.workflows.terminal import audit_table, runs_table, terminal_table
from runfolders import NAMES, make_run

SECTIONS = [
    *("headline", "evidence", "growth", "rolling", "costs", "detail"),
    *("forecasts", "regimes", "attention", "limits", "cards", "conventions"),
]
HOSTILE = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Elements of a page with their attributes; fails on tags that do not close in order."""

    VOID = frozenset(["meta", "img", "br", "path", "line", "rect", "link", "input", "hr"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID and tag != "td":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and tag != "td":
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "run"))


def test_every_section_is_there_and_the_page_is_well_formed(folder: Path) -> None:
    page = Page(write_report(folder).read_text())
    assert page.open == []
    ids = [attrs["id"] for tag, attrs in page.elements if tag == "section"]
    assert ids == SECTIONS


def test_the_page_loads_nothing(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    for tag, attrs in Page(text).elements:
        assert tag not in ("link", "iframe", "object")
        for name in ("src", "href", "srcset", "action"):
            assert (attrs.get(name) or "data:").startswith("data:")
    assert len(text) < 500_000


def test_the_numbers_are_those_of_the_metrics(folder: Path) -> None:
    text = write_report(folder).read_text()
    metrics = json.loads((folder / "metrics.json").read_text())["strategies"]
    cells = re.findall(r'<td data-k="(\w+)" data-v="([^"]+)"[^>]*>([^<]+)', text)
    ranked = sorted(metrics.values(), key=lambda entry: -entry["sharpe"]["value"])
    shown = [(float(value), label) for key, value, label in cells if key == "sharpe"]
    assert [value for value, _ in shown] == [entry["sharpe"]["value"] for entry in ranked]
    assert [label for _, label in shown] == [number(entry["sharpe"]["value"]) for entry in ranked]
    days = [float(value) for key, value, _ in cells if key == "n_days"]
    assert days == [entry["n_days"] for entry in ranked]


def test_months_compound_to_the_final_wealth(folder: Path) -> None:
    text = write_report(folder).read_text()
    equity = pd.read_parquet(folder / "equity.parquet")
    first = text[text.index('data-of="0"') : text.index('data-of="1"')]
    rows = re.findall(r"<tr><td>\d{4}</td>(.*?)</tr>", first)
    ends = [[float(c.replace("−", "-")) / 100 for c in re.findall(r"<td[^>]*>(−?[\d.]+)", row)] for row in rows]
    best = max(
        NAMES, key=lambda n: json.loads((folder / "metrics.json").read_text())["strategies"][n]["sharpe"]["value"]
    )
    product = 1.0
    for row in ends:
        product *= 1 + row[-1]
        assert (1 + pd.Series(row[:-1])).prod() - 1 == pytest.approx(row[-1], abs=0.01)
    assert product == pytest.approx(equity[best].iloc[-1], rel=0.01)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", n=300, names=(HOSTILE, "linear", "equal_weight"), resamples=20)
    about = json.loads((folder / "run.json").read_text())
    about |= {"name": HOSTILE, "execution": HOSTILE}
    about["data"] |= {"name": HOSTILE, "notice": HOSTILE, "assets": [HOSTILE]}
    (folder / "run.json").write_text(json.dumps(about))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["audit"] = {"passed": False, "checks": [{"name": HOSTILE, "passed": False, "detail": HOSTILE}]}
    metrics["spa"]["benchmark"] = HOSTILE
    (folder / "metrics.json").write_text(json.dumps(metrics))
    text = write_report(folder).read_text()
    assert "<script>alert" not in text
    page = Page(text)
    assert page.open == []
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    hover = [json.loads(attrs["data-hover"] or "") for _, attrs in page.elements if "data-hover" in attrs]
    assert any(series[0] == HOSTILE for chart in hover for series in chart["s"])


def test_a_failed_audit_and_a_contaminated_model_cannot_be_missed(copy: Path) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["audit"] = {"passed": False, "checks": [{"name": "linear", "passed": False, "detail": "9 changed"}]}
    metrics["strategies"]["linear"]["contaminated"] = True
    (copy / "metrics.json").write_text(json.dumps(metrics))
    text = write_report(copy).read_text()
    assert text.count("audit FAILED") == 2
    assert "1 of 1 checks failed" in text
    assert "knew the future" in text
    assert "models that had seen the test period" in text


def test_what_is_missing_is_left_out(copy: Path) -> None:
    for file in copy.glob("*.parquet"):
        file.unlink()
    (copy / "run.json").unlink()
    (copy / "metrics.json").write_text(
        json.dumps({"strategies": {"a": {"sharpe": None}, "b": {"sharpe": 1.0}, "c": {}}})
    )
    page = Page(write_report(copy).read_text())
    assert [attrs["id"] for tag, attrs in page.elements if tag == "section"] == [
        "headline", "evidence", "cards", "conventions",
    ]  # fmt: skip
    (copy / "metrics.json").write_text("{}")
    assert "recorded no strategies" in write_report(copy).read_text()


def test_a_folder_without_metrics_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to report"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_old_report_survives_a_failed_one(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(copy).read_bytes()
    (copy / "metrics.json").write_text("{broken")
    with pytest.raises(ValueError, match="Expecting"):
        write_report(copy)
    assert (copy / "report.html").read_bytes() == before
    assert not list(copy.glob(".report*"))


def _printed(table: object) -> str:
    console = Console(width=220, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_terminal_shows_the_same_figures(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    text = _printed(terminal_table(metrics))
    for name, entry in metrics["strategies"].items():
        line = next(row for row in text.splitlines() if row.lstrip("│ ").startswith(name))
        sharpe = entry["sharpe"]
        assert f"{number(sharpe['value'])} [{number(sharpe['low'])}, {number(sharpe['high'])}]" in line
    assert "FAIL" in _printed(audit_table({"passed": False, "checks": [{"name": "[red]x", "passed": False}]}))
    assert "[red]x" in _printed(audit_table({"passed": False, "checks": [{"name": "[red]x", "passed": False}]}))
    assert "demo" in _printed(runs_table([{"id": "demo", "audit": True, "strategies": ["a"]}]))
