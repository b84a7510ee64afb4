"""The report of a run: one HTML file that needs nothing else, written from the tables of its folder.

`write_report` reads what `foliocast.workflows.backtest` wrote and adds no number that is not in those files or follows
from them by a formula named in the text.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib import resources
from pathlib import Path

from foliocast.runtime.files import whole_file
from foliocast.workflows import report_sections as sections
from foliocast.workflows.report_explain import explanations
from foliocast.workflows.report_models import attention, forecasts, regimes
from foliocast.workflows.report_rules import cards, conventions, limits
from foliocast.workflows.run_tables import Run

SECTIONS: tuple[Callable[[Run], str], ...] = (
    sections.headline,
    sections.evidence,
    sections.growth,
    sections.rolling,
    sections.costs,
    sections.detail,
    forecasts,
    regimes,
    attention,
    explanations,
    limits,
    cards,
    conventions,
)


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder, whole or not at all.

    Parameters
    ----------
    run_dir : Path
        A folder with ``metrics.json``; ``run.json`` and the Parquet tables add their sections where they are.

    Returns
    -------
    Path
        The file. It loads nothing from any network.
    """
    run = Run.read(Path(run_dir))
    body = sections.opening(run) + "".join(section(run) for section in SECTIONS)
    page = _PAGE.format(
        title=escape(str(run.about.get("name") or run.folder.name)),
        style=_asset("report.css"),
        script=_asset("report.js"),
        body=body,
        version=escape(str((run.about.get("versions") or {}).get("foliocast", ""))),
    )
    target = run.folder / "report.html"
    with whole_file(target) as aside:
        aside.write_text(page, encoding="utf-8")
    return target


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="referrer" content="no-referrer"><title>{title} · Foliocast</title><style>{style}</style></head>
<body><main>{body}<footer>Foliocast {version} · research, not investment advice · this page is self-contained</footer>
</main><script>{script}</script></body></html>
"""


def _asset(name: str) -> str:
    return (resources.files("foliocast.workflows") / "page" / name).read_text(encoding="utf-8")
