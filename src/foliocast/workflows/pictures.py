"""Pictures that stand alone: one SVG file each, readable anywhere, without a library, a network or a style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 44, 36
INK, PALE, COLOURS = "#1f2937", "#d1d5db", ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#dc2626", "#64748b")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.t{font-size:16px;font-weight:600}.r{text-anchor:end}"
    ".m{text-anchor:middle}@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.ink{stroke:#e5e7eb}.g{stroke:#374151}}"
)


def fan(
    history: pd.Series,
    dates: Sequence[pd.Timestamp],
    middle: np.ndarray,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
) -> str:
    """History as a line, the future as a path inside its bands.

    Parameters
    ----------
    history : Series
        Prices by date.
    dates : sequence of Timestamp
        The bars ahead.
    middle : (horizon,) array
    bands : mapping of str to (low, high)
        By name ("80 %"), each (horizon,); the widest may come in any order.
    title : str
    """
    past, ahead = history.to_numpy(dtype=float), np.asarray(middle, dtype=float)
    edges = [np.asarray(edge, dtype=float) for pair in bands.values() for edge in pair]
    place = _Places(len(past) + len(ahead), [past, ahead, *edges])
    x = place.x(np.arange(len(past) - 1, len(past) + len(ahead)))
    drawn = []
    for low, high in sorted(bands.values(), key=lambda pair: -float(np.max(pair[1] - pair[0]))):
        outline = [(x, np.concatenate([past[-1:], low])), (x[::-1], np.concatenate([past[-1:], high])[::-1])]
        points = " ".join(_points(xs, place.y(ys)) for xs, ys in outline)
        drawn.append(f'<polygon points="{points}" fill="{COLOURS[0]}" fill-opacity=".22"/>')
    drawn.append(_line(place.x(np.arange(len(past))), place.y(past), INK, "ink"))
    drawn.append(_line(x, place.y(np.concatenate([past[-1:], ahead])), COLOURS[0]))
    times = [*history.index, *dates]
    said = f"{title}; bands {', '.join(bands)}" if bands else title
    return _svg(said, [*place.grid(), *_dates(place, times), *drawn])


def lines(table: pd.DataFrame, title: str) -> str:
    """A line a column over the index, with names beside their colours."""
    values = table.to_numpy(dtype=float)
    place = _Places(len(table), [values])
    drawn = [*place.grid(), *_dates(place, list(table.index))]
    for k, name in enumerate(table.columns):
        colour = COLOURS[k % len(COLOURS)]
        drawn.append(_line(place.x(np.arange(len(table))), place.y(values[:, k]), colour))
        drawn.append(f'<text x="{LEFT + 10}" y="{TOP + 16 + 17 * k}" style="fill:{colour}">{escape(str(name))}</text>')
    return _svg(title, drawn)


def bars(weights: pd.Series, title: str) -> str:
    """A bar a name with its share in per cent, in the order given."""
    top = max(float(weights.max()), 1e-9)
    step = (HEIGHT - TOP - 12) / max(len(weights), 1)
    drawn = []
    for k, (name, weight) in enumerate(weights.items()):
        y, width = TOP + step * k, max(0.0, float(weight)) / top * (WIDTH - LEFT - RIGHT - 80)
        drawn.append(
            f'<rect x="{LEFT + 20}" y="{y:.1f}" width="{width:.1f}" height="{step * 0.7:.1f}" fill="#2563eb"/>'
        )
        middle = y + step * 0.35 + 5
        drawn.append(f'<text class="r" x="{LEFT + 12}" y="{middle:.1f}">{escape(str(name))}</text>')
        drawn.append(f'<text x="{LEFT + 28 + width:.1f}" y="{middle:.1f}">{float(weight):.1%}</text>')
    return _svg(title, drawn)


class _Places:
    """Where a bar and a value are on the picture."""

    def __init__(self, n: int, values: Sequence[np.ndarray]) -> None:
        flat = np.concatenate([np.ravel(v) for v in values])
        flat = flat[np.isfinite(flat)]
        low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 1.0)
        pad = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
        self.low, self.high, self.n = low - pad, high + pad, max(n, 2)

    def x(self, bar: np.ndarray) -> np.ndarray:
        return LEFT + np.asarray(bar, dtype=float) / (self.n - 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: np.ndarray) -> np.ndarray:
        share = (np.asarray(value, dtype=float) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> list[str]:
        """Lines at round values, with their numbers."""
        rough = (self.high - self.low) / 5
        step = 10.0 ** np.floor(np.log10(rough))
        step *= next(m for m in (1, 2, 5, 10) if m * step >= rough)
        out = []
        for tick in np.arange(np.ceil(self.low / step) * step, self.high, step):
            y = float(self.y(tick))
            out.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{PALE}"/>')
            out.append(f'<text class="r" x="{LEFT - 8}" y="{y + 4:.1f}">{tick:,.10g}</text>')
        return out


def _dates(place: _Places, times: Sequence[pd.Timestamp]) -> list[str]:
    out = []
    for bar in np.unique(np.linspace(0, len(times) - 1, 5).astype(int)):
        where = "r" if bar == len(times) - 1 else "m" if bar else ""
        x = float(place.x(np.array(bar)))
        out.append(f'<text class="{where}" x="{x:.1f}" y="{HEIGHT - 12}">{pd.Timestamp(times[bar]):%Y-%m-%d}</text>')
    return out


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y) if np.isfinite(b))


def _line(x: np.ndarray, y: np.ndarray, colour: str, kind: str = "") -> str:
    return f'<polyline class="{kind}" points="{_points(x, y)}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _svg(title: str, drawn: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{STYLE}</style>'
        f'<text class="t" x="{LEFT}" y="26">{escape(title)}</text>{"".join(drawn)}</svg>\n'
    )
