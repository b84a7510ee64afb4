"""Hook of the documentation site: everything in it that is made rather than written.

- the first page from the README, changelog and contributing from theirs;
- the reference from docstrings, one page a room, and the command line's and the HTTP API's from themselves;
- notebooks (``notebooks/*.py``, jupytext's percent format) executed into pages, with what they print;
- pictures that the blocks of a page write (the gallery), made by running the page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = {"tutorials": "Tutorials", "howto": "How to", "explain": "Explanations"}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[[^]]*\]\(([^):]+)\)")
ROOMS = {
    "core": "Panel, scenarios, book, splits",
    "data": "Data",
    "features": "Features and regimes",
    "models": "Models that learn",
    "scenarios": "Scenario models and views",
    "portfolio": "Allocation",
    "trading": "Backtest, costs, limits",
    "explain": "Decomposition",
    "workflows": "Workflows",
}


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder to run documentation in: nothing of the user's is touched."""
    before, home = Path.cwd(), os.environ.get("FOLIOCAST_HOME")
    with tempfile.TemporaryDirectory() as place:
        os.environ["FOLIOCAST_HOME"] = str(Path(place) / ".home")
        os.chdir(place)
        try:
            yield Path(place)
        finally:
            os.chdir(before)
            os.environ.pop("FOLIOCAST_HOME") if home is None else os.environ.update(FOLIOCAST_HOME=home)


def run_blocks(page: Path, text: str) -> dict[str, object]:
    """Run the Python blocks of a page in one namespace, in the current folder; errors name the page's line."""
    names: dict[str, object] = {"__name__": "docs"}
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 2
        with contextlib.redirect_stdout(io.StringIO()):  # the build stays quiet
            exec(compile("\n" * (line - 1) + match.group(1), str(page), "exec"), names)
    return names


def executed(notebook: Path) -> str:
    """A percent-format notebook as Markdown, with what each cell printed below it. Runs in the current folder."""
    import jupytext

    names: dict[str, object] = {"__name__": "notebook"}
    parts = []
    for cell in jupytext.read(notebook, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(cell.source, f"{notebook.name}: {cell.source.splitlines()[0]}", "exec"), names)
        parts.append(f"```python\n{cell.source}\n```")
        if said.getvalue().strip():
            parts.append(f"```text\n{said.getvalue().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def pictures(folder: Path) -> dict[str, bytes]:
    """The SVG files of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.svg"))}


# ---- made pages
def first_page() -> str:
    """The README, with its links as the site has them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    return text.replace("](CHANGELOG.md)", "](changelog.md)").replace("](CONTRIBUTING.md)", "](contributing.md)")


def reference() -> dict[str, str]:
    """Path and text of each page of the reference."""
    import foliocast

    pages = {}
    for room, title in ROOMS.items():
        listed = sorted(name for name, module in foliocast._PUBLIC.items() if module.split(".")[1] == room)
        where = {name: getattr(foliocast, name).__module__ for name in listed}
        text = f"# {title}\n\n" + "\n".join(f"::: {where[name]}.{name}\n" for name in listed)
        pages[f"reference/{room}.md"] = text
    pages["reference/stats.md"] = "# Statistics\n\n" + "\n".join(
        f"::: foliocast.stats.{path.stem}\n"
        for path in sorted((ROOT / "src/foliocast/stats").glob("*.py"))
        if path.stem != "__init__"
    )
    pages["reference/errors.md"] = "# Errors\n\n::: foliocast.core.errors\n"
    pages["reference/command-line.md"] = command_line()
    pages["reference/http.md"] = http()
    return pages


def command_line() -> str:
    """Every verb with its own help."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from foliocast.apps.cli.main import app

    def helped(words: list[str]) -> str:
        environment = {"COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}
        text = CliRunner().invoke(app, [*words, "--help"], env=environment).stdout
        return f"{'#' * (len(words) + 1)} {' '.join(words)}\n\n```text\n{text.strip()}\n```\n"

    parts = ["# The command line\n"]
    for verb, command in get_command(app).commands.items():
        parts.append(helped([verb]))
        parts += [helped([verb, inner]) for inner in getattr(command, "commands", {})]
    return "\n".join(parts)


def http() -> str:
    """Every operation of the API, from its schema."""
    import json

    from foliocast.apps.api.app import create_app
    from foliocast.apps.api.schemas import EXAMPLES
    from foliocast.apps.api.settings import Settings

    with tempfile.TemporaryDirectory() as place:
        spec = create_app(Settings(folder=Path(place))).openapi()
    rows = ["# The HTTP API\n", "The whole schema is at `/openapi.json` of a running service.\n"]
    rows += ["| operation | does | answers |", "|---|---|---|"]
    for path, operations in spec["paths"].items():
        for method, about in operations.items():
            said = about.get("description", "").splitlines()
            codes = ", ".join(code for code in about["responses"] if code.startswith("2"))
            rows.append(f"| `{method.upper()} {path}` | {said[0] if said else ''} | {codes} |")
    rows.append("\n## Bodies of `POST /jobs`\n")
    rows += [f"```json\n{json.dumps(example, indent=2)}\n```\n" for example in EXAMPLES.values()]
    return "\n".join(rows)


def made() -> dict[str, str | bytes]:
    """Everything that the site has beside ``docs/``."""
    out: dict[str, str | bytes] = {"index.md": first_page(), **reference()}
    out["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    out["contributing.md"] = contributing.replace("](docs/", "](")
    out["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    return out | shown()


def shown() -> dict[str, str | bytes]:
    """Notebooks as executed, and the pictures that blocks of pages make; FOLIOCAST_SITE_FAST leaves them empty."""
    fast = bool(os.environ.get("FOLIOCAST_SITE_FAST"))
    out: dict[str, str | bytes] = {}
    for notebook in sorted((ROOT / "notebooks").glob("*.py")):
        name = f"notebooks/{notebook.stem}.md"
        if fast:
            out[name] = f"# {notebook.stem}\n"
            continue
        with workplace() as place:
            out[name] = executed(notebook)
            out |= {f"notebooks/{name}": content for name, content in pictures(place).items()}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        names = [name for name in PICTURE.findall(text) if not (page.parent / name).is_file()]
        folder = page.parent.relative_to(ROOT / "docs")
        if names and fast:
            out |= {(folder / name).as_posix(): b"" for name in names}
        elif names:
            with workplace() as place:
                run_blocks(page, text)
                out |= {(folder / name).as_posix(): (place / name).read_bytes() for name in names}
    return out


# ---- what mkdocs calls
def on_files(files: Any, config: Any) -> Any:
    """Add what is made, and order the navigation."""
    from mkdocs.structure.files import File

    for path, content in made().items():
        files.append(File.generated(config, path, content=content))
    config["nav"] = navigation(sorted(file.src_uri for file in files if file.src_uri.endswith(".md")))
    return files


def navigation(pages: list[str]) -> list[Any]:
    """Home, tutorials, how-to, explanations, notebooks, gallery, reference."""

    def inside(folder: str) -> list[str]:
        return [page for page in pages if page.startswith(f"{folder}/")]

    nav: list[Any] = [{"Home": ["index.md", "changelog.md", "contributing.md"]}]
    nav += [{title: inside(folder)} for folder, title in SECTIONS.items()]
    return [*nav, {"Notebooks": inside("notebooks")}, {"Gallery": "gallery.md"}, {"Reference": inside("reference")}]
