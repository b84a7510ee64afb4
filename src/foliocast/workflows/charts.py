"""Small charts as inline SVG: nothing to download, sharp at any width, coloured by the page's style sheet.

The drawing stretches with the page while its labels are HTML, so they stay readable on a phone. Every function returns
markup; names are escaped here and nowhere else needs to.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 1000, 300  # drawing units
COLOURS = 14
_POINTS = 220  # bins across a line; each keeps its lowest and highest value
_HOVER = 160
_AREA_POINTS = 110


@dataclass(frozen=True)
class Line:
    """A named series with its place in the palette."""

    name: str
    values: np.ndarray
    colour: int
    baseline: bool = False


@dataclass(frozen=True)
class Axis:
    """How values become heights, and which of them are labelled."""

    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str = ""
    log: bool = False

    def place(self, values: np.ndarray | float) -> np.ndarray:
        """Heights in drawing units, from the top."""
        low, high, v = self.low, self.high, np.asarray(values, dtype=float)
        if self.log:
            low, high, v = np.log(low), np.log(high), np.log(np.maximum(v, self.low * 1e-3))
        return HEIGHT * (1.0 - (v - low) / (high - low))


def axis(values: Sequence[np.ndarray], unit: str = "", log: bool = False, zero: bool = False) -> Axis:
    """An axis that holds all finite values, with round ticks."""
    flat = np.concatenate([np.asarray(v, dtype=float).ravel() for v in values]) if len(values) else np.zeros(0)
    flat = flat[np.isfinite(flat) & ((flat > 0) | (not log))]
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = (low * 0.9, high * 1.1 + 1e-6) if log else (low - 0.5, high + 0.5)
    ticks = _log_ticks(low, high) if log else _ticks(low, high)
    pad = 0.0 if log else 0.02 * (high - low)
    return Axis(low * 0.97 if log else low - pad, high * 1.03 if log else high + pad, ticks, unit, log)


def line_chart(
    dates: pd.DatetimeIndex,
    lines: Sequence[Line],
    scale: Axis,
    bands: Sequence[tuple[int, int, int]] = (),
    mark: float | None = None,
    label: str = "",
) -> str:
    """Lines over time.

    Parameters
    ----------
    dates : DatetimeIndex, shape (n,)
    lines : sequence of Line
        Values of shape (n,); NaN leaves a gap.
    scale : Axis
    bands : sequence of (start, stop, colour)
        Positions shaded behind the lines.
    mark : float, optional
        Height of a reference line.
    label : str
        Read to those who cannot see it.
    """
    n = len(dates)
    parts = [_grid(scale)]
    for start, stop, colour in bands:
        x0, x1 = _x(start, n), _x(min(stop, n - 1), n)
        parts.append(
            f'<rect class="r s{colour % COLOURS}" x="{x0:.0f}" y="0" '
            f'width="{max(1.0, x1 - x0):.0f}" height="{HEIGHT}"/>'
        )
    if mark is not None:
        y = float(scale.place(mark))
        parts.append(f'<line class="z" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for line in sorted(lines, key=lambda item: not item.baseline):
        style = f"l s{line.colour % COLOURS}" + (" base" if line.baseline else "")
        parts.append(f'<path class="{style}" data-s="{line.colour}" d="{_path(line.values, scale)}"/>')
    return _frame("".join(parts), _labels(scale, dates), _hover(dates, lines, scale.unit), label=label)


def stacked_chart(dates: pd.DatetimeIndex, layers: Sequence[Line], unit: str = "%", label: str = "") -> str:
    """Layers on top of one another over time: gains above zero, shorts below. NaN counts as zero."""
    edges = np.unique(np.linspace(0, len(dates), _AREA_POINTS + 1).astype(int))
    starts = edges[:-1]
    table = np.array([np.add.reduceat(np.nan_to_num(layer.values), starts) for layer in layers])
    table = table / np.diff(edges)
    above, below = np.cumsum(np.maximum(table, 0), axis=0), np.cumsum(np.minimum(table, 0), axis=0)
    scale = axis([above[-1:], below[-1:]], unit, zero=True)
    parts = [_grid(scale)]
    x = np.round(np.linspace(0, WIDTH, len(starts))).astype(int)
    for k, layer in enumerate(layers):
        for stack, sign in ((above, 1), (below, -1)):
            if not (table[k] * sign > 1e-6).any():
                continue
            outer = np.round(scale.place(stack[k])).astype(int)
            inner = np.round(scale.place(stack[k - 1] if k else np.zeros(len(x)))).astype(int)
            d = _polygon(np.r_[x, x[::-1]], np.r_[outer, inner[::-1]])
            title = f"<title>{escape(layer.name)}</title>"
            parts.append(f'<path class="a s{layer.colour % COLOURS}" d="{d}">{title}</path>')
    zero = float(scale.place(0.0))
    parts.append(f'<line class="z" x1="0" x2="{WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    return _frame("".join(parts), _labels(scale, dates), None, label=label)


def bar_chart(
    names: Sequence[str],
    groups: Sequence[Line],
    errors: Sequence[np.ndarray | None],
    unit: str = "",
    label: str = "",
) -> str:
    """Bars in groups, with whiskers of 1.96 standard errors.

    Parameters
    ----------
    names : sequence of str
        One a position along the axis.
    groups : sequence of Line
        Values of shape (len(names),); NaN leaves a bar out.
    errors : sequence of ndarray or None
        Standard errors beside each group's values.
    """
    spreads = [np.nan_to_num(e) * 1.96 if e is not None else np.zeros(len(names)) for e in errors]
    ends = [group.values + sign * spread for group, spread in zip(groups, spreads) for sign in (-1, 1)]
    scale = axis(ends, unit, zero=True)
    parts, zero = [_grid(scale)], float(scale.place(0.0))
    slot = WIDTH / max(1, len(names))
    width = min(60.0, 0.7 * slot / max(1, len(groups)))
    for g, (group, spread) in enumerate(zip(groups, spreads)):
        for k, value in enumerate(group.values):
            if not np.isfinite(value):
                continue
            x, y = slot * (k + 0.5) + width * (g - len(groups) / 2), float(scale.place(value))
            title = f"<title>{escape(group.name)}, {escape(str(names[k]))}: {_tick(float(value), unit, 4)}</title>"
            parts.append(
                f'<rect class="a s{group.colour % COLOURS}" x="{x:.0f}" y="{min(y, zero):.1f}" '
                f'width="{width * 0.9:.0f}" height="{abs(y - zero):.1f}">{title}</rect>'
            )
            if spread[k] > 0:
                middle = x + width * 0.45
                top, bottom = (float(scale.place(value + s * spread[k])) for s in (1, -1))
                parts.append(f'<line class="w" x1="{middle:.0f}" x2="{middle:.0f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
    parts.append(f'<line class="z" x1="0" x2="{WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    every = max(1, -(-len(names) // 14))
    shown = [
        _x_label((k + 0.5) / len(names), str(name), k // every % 2) for k, name in enumerate(names) if k % every == 0
    ]
    return _frame("".join(parts), _y_labels(scale) + "".join(shown), None, label=label)


def heat_map(table: np.ndarray, label: str = "") -> str:
    """A table of non-negative numbers as shades of one colour, low rows on top; transparent where zero."""
    top = float(np.nanquantile(table, 0.995)) if table.size else 0.0
    shade = np.clip(np.nan_to_num(table) / top, 0.0, 1.0) if top > 0 else np.zeros(table.shape)
    pixels = np.empty((*table.shape, 4), dtype=np.uint8)
    pixels[..., :3] = (74, 116, 245)
    pixels[..., 3] = np.round(255 * shade)
    return f'<img class="heat" alt="{escape(label)}" src="data:image/png;base64,{_png(pixels)}">'


def _png(pixels: np.ndarray) -> str:
    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return base64.b64encode(out).decode()


def legend(lines: Sequence[Line], switch: bool = True) -> str:
    """Names beside their colours; as buttons that hide a line in every chart of the page."""
    item = (
        '<button type="button" aria-pressed="true" data-s="{c}"><i class="dot s{k}"></i><em>{n}</em></button>'
        if switch
        else '<span class="key"><i class="dot s{k}"></i><em>{n}</em></span>'
    )
    keys = (item.format(c=line.colour, k=line.colour % COLOURS, n=escape(line.name)) for line in lines)
    return f'<div class="legend">{"".join(keys)}</div>'


# ---- pieces ---------------------------------------------------------------------------------------------------------


def _x(position: float, n: int) -> float:
    return WIDTH * position / max(1, n - 1)


def _path(values: np.ndarray, scale: Axis) -> str:
    """The line through every bin's lowest and highest value, in the order they came; gaps where values are missing."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    at = np.arange(n)
    if n > 2 * _POINTS:
        edges = np.linspace(0, n, _POINTS + 1).astype(int)
        filled = np.where(np.isfinite(values), values, 0.0)
        keep = [np.r_[a + filled[a:b].argmin(), a + filled[a:b].argmax()] for a, b in pairwise(edges)]
        at = np.unique(np.concatenate([[0, n - 1], *keep]))
    x, y = np.round(at * (WIDTH / max(1, n - 1)), 1), np.round(scale.place(values[at]), 1)
    out, pen = [], "M"
    for u, v in zip(x.tolist(), y.tolist()):
        if v != v:
            pen = "M"
            continue
        out.append(f"{pen}{u:g} {v:g}")
        pen = "L"
    return "".join(out)


def _polygon(x: np.ndarray, y: np.ndarray) -> str:
    dx, dy = np.diff(x).tolist(), np.diff(y).tolist()
    return f"M{x[0]} {y[0]}l" + " ".join(f"{a} {b}" for a, b in zip(dx, dy)) + "z"


def _grid(scale: Axis) -> str:
    heights = [float(scale.place(tick)) for tick in scale.ticks]
    return "".join(f'<line class="g" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in heights)


def _frame(drawing: str, labels: str, hover: str | None, label: str) -> str:
    data = f" data-hover='{hover}'" if hover else ""
    return (
        f'<div class="chart"{data}><div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">{drawing}</svg>{labels}</div></div>'
    )


def _labels(scale: Axis, dates: pd.DatetimeIndex) -> str:
    return _y_labels(scale) + _date_labels(dates)


def _y_labels(scale: Axis) -> str:
    step = min(np.diff(scale.ticks), default=1.0)
    digits = int(np.ceil(-np.log10(abs(step) or 1) - 1e-9)) - (2 if scale.unit == "%" else 0)
    digits = min(max(digits, 0), 4)
    return "".join(
        f'<span class="y" style="top:{float(scale.place(tick)) / HEIGHT:.2%}">{_tick(tick, scale.unit, digits)}</span>'
        for tick in scale.ticks
    )


def _tick(value: float, unit: str, digits: int) -> str:
    text = f"{value * 100:.{digits}f} %" if unit == "%" else f"{value:.{digits}f}"
    return text.replace("-", "−")


def _x_label(share: float, text: str, odd: int) -> str:
    return f'<span class="x{" odd" if odd else ""}" style="left:{share:.2%}">{escape(text)}</span>'


def _date_labels(dates: pd.DatetimeIndex) -> str:
    """First bars of years (or months), at most about ten."""
    if len(dates) < 2:
        return ""
    yearly = (dates[-1] - dates[0]).days > 800
    key = dates.year if yearly else dates.year * 12 + dates.month
    first = np.flatnonzero(np.diff(key.to_numpy())) + 1
    first = first[:: max(1, -(-len(first) // 10))]
    form = "%Y" if yearly else "%b %Y"
    kept = [int(k) for k in first if k < 0.98 * len(dates)]
    return "".join(_x_label(k / (len(dates) - 1), f"{dates[k]:{form}}", i % 2) for i, k in enumerate(kept))


def _hover(dates: pd.DatetimeIndex, lines: Sequence[Line], unit: str) -> str:
    at = np.unique(np.linspace(0, len(dates) - 1, min(_HOVER, len(dates))).round().astype(int))
    digits = 3 if unit == "%" else 2
    series = [
        [line.name, line.colour % COLOURS, [None if v != v else round(v, digits) for v in line.values[at].tolist()]]
        for line in lines
    ]
    data = {"x": [f"{dates[k]:%Y-%m-%d}" for k in at], "u": unit, "s": series}
    return escape(json.dumps(data, separators=(",", ":")), quote=False).replace("'", "&#39;")


def _ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    raw = (high - low) / wanted
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = int(np.ceil(low / step - 1e-9))
    return tuple(float(k * step) for k in range(first, int(np.floor(high / step + 1e-9)) + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    for marks in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        found = [m * 10.0**p for p in powers for m in marks if low <= m * 10.0**p <= high]
        if len(found) >= 4:
            return tuple(found)
    return _ticks(low, high)
