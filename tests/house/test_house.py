"""The rules of the house, kept by machines: light imports, public names, short functions, no words from elsewhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foliocast

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = ("torch", "skfolio", "plotly", "sklearn", "scipy", "pandas.io.sql", "cvxpy", "arch", "duckdb", "streamlit")


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(chr(10).join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _modules_after("import foliocast")
    assert not loaded & {*HEAVY, "numpy", "pandas"}


def test_help_loads_nothing_heavy() -> None:
    code = "import contextlib, io\nfrom foliocast.apps.cli import main\nsys.argv = ['foliocast', '--help']\n"
    code += "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    main()"
    assert not _modules_after(code) & {*HEAVY, "numpy", "pandas"}


def test_public_names_are_pinned_and_resolve() -> None:
    pinned = (
        "Panel View ScenarioSet Forecast Book WalkForward PurgedKFold CombinatorialPurged load_panel stats "
        "backtest walk_forward BacktestResult Costs audit score Optimized "
        "AttentionLSTM LSTMForecaster TransformerForecaster LinearForecaster NaiveForecaster "
        "BlockBootstrap FilteredHistoricalSimulation GaussianCopula StudentTCopula "
        "DiffusionScenarios PretrainedScenarios "
        "FundGenerator"
    )
    assert set(pinned.split()) <= set(foliocast.__all__)
    for name in foliocast.__all__:
        assert getattr(foliocast, name) is not None, name


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        foliocast.nonsense


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src" / "foliocast")))
def test_every_module_says_what_it_is_and_keeps_its_functions_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "module without a docstring"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (
                (node.end_lineno or node.lineno) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            )
            assert length <= 70, f"{node.name} has {length} lines"


def test_no_file_holds_a_path_of_one_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    files = [ROOT / f for f in tracked.stdout.split()] or SOURCES
    words = ["/" + part + "/" for part in ("root", "home", "work", "farm")]
    for file in files:
        if file.suffix in {".py", ".md", ".toml", ".yml", ".txt"} and file.is_file() and file != Path(__file__):
            text = file.read_text(encoding="utf-8")
            assert not [word for word in words if word in text.replace("actions/checkout", "")], file
