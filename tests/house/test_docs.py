"""Documentation is code: every Python and every ``sh`` block runs, notebooks run, and the site is built strictly.

Blocks of one file share a namespace and a folder. In ``sh`` blocks each line is a command of ours, run in this process;
one that must fail says how: ``# exit 2``.
"""

from __future__ import annotations

import glob
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from foliocast.apps.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r"\A# ")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / "scripts" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert TITLE.match(text), "a page begins with its title"
    names: dict[str, object] = {"__name__": "docs"}
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 2
        if match.group(1) == "sh":
            for command in filter(None, match.group(2).splitlines()):
                run_command(command)
        else:
            exec(compile("\n" * (line - 1) + match.group(2), str(page), "exec"), names)
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        there = [place / picture for place in (tmp_path, page.parent) if (place / picture).is_file()]
        assert there, f"no block makes {picture}, and it is not beside the page"


def run_command(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    assert program == "foliocast", line
    words = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]
    expected = re.search(r"# exit (\d)$", line)
    done = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert done.exit_code == (int(expected.group(1)) if expected else 0), f"{line}\n{done.output}\n{done.exception!r}"


def test_every_verb_is_taught() -> None:
    from typer.main import get_command

    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [verb for verb in get_command(app).commands if f"foliocast {verb}" not in told] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"(?<!!)\[[^]]*\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_a_notebook_runs_and_makes_its_pictures(site: ModuleType, notebook: Path) -> None:
    with site.workplace() as place:
        text = site.executed(notebook)
        assert TITLE.match(text)
        assert "```text\n" in text, "it shows what it prints"
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (place / picture).is_file()


def test_the_site_is_whole(site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built strictly: a broken link, a page that is in no menu or a docstring that is not understood ends the build."""
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.setenv("FOLIOCAST_SITE_FAST", "1")  # notebooks and gallery have tests of their own
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(ROOT / "mkdocs.yml")]
    done = subprocess.run([*words, "-d", str(tmp_path / "site")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    pages = {str(page.relative_to(tmp_path / "site")) for page in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "gallery.html", "reference/core.html", "tutorials/backtest.html"} <= pages
    fetched = re.compile(rb"""(?:src|href)=["']https?://[^"']+\.(?:js|css|woff2?)""")
    assert not [page for page in pages if fetched.search((tmp_path / "site" / page).read_bytes())], "needs a network"
