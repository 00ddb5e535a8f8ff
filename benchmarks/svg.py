"""Charts as SVG: bars in groups, and lines on logarithmic axes. The same input gives the same bytes.

Each file stands alone: its own background, colours for light and dark surroundings, no script, no font, nothing
fetched. It has a title and a description that tells every number, for those who do not see it; series are named
where they are drawn and not by colour alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
MARGIN = 24
LABELS = 170  # pixels left of the bars
VALUES = 110  # and right of them
BAR, BAR_GAP, GROUP_GAP = 16, 6, 14
PLOT_HEIGHT = 300
LINE_HEIGHT = 15

# By series: on light and on dark ground, each at least 3:1 against it.
COLOURS = {
    "tidegate": ("#0b62d6", "#58a6ff"),
    "node": ("#2e7d32", "#56d364"),
    "python-socketio": ("#b35900", "#ffa657"),
    "bun": ("#a0308f", "#f778ba"),
    "c_floor": ("#6e7781", "#9da7b3"),
    "c_floor_coalesce": ("#4a525a", "#c3ccd5"),
}
GROUND, TEXT, FAINT, GRID = (
    ("#ffffff", "#0d1117"),
    ("#1f2328", "#e6edf3"),
    ("#59636e", "#9198a1"),
    ("#d0d7de", "#30363d"),
)
DASHES = {"c_floor": "2 4", "c_floor_coalesce": "8 4"}


@dataclass(frozen=True)
class Bar:
    """target: where the bar should end at the latest."""

    series: str
    value: float
    target: float | None = None


@dataclass(frozen=True)
class Group:
    label: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Line:
    series: str
    points: Sequence[tuple[float, float]]


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bars(title: str, unit: str, groups: Sequence[Group]) -> str:
    """Horizontal bars from zero, each with its series and its value beside it."""
    top = max(max(bar.value, bar.target or 0) for group in groups for bar in group.bars)
    scale = (WIDTH - 2 * MARGIN - LABELS - VALUES) / top
    left = MARGIN + LABELS
    parts: list[str] = []
    y = 72.0
    for group in groups:
        if group.label:
            parts.append(_text(MARGIN, y + 11, group.label, "group"))
            y += 22
        for bar in group.bars:
            width = bar.value * scale
            parts.append(_text(left - 8, y + 12, bar.series, "label", anchor="end"))
            parts.append(
                f'<rect class="{_class(bar.series)}" x="{left}" y="{y:.1f}" width="{width:.1f}" height="{BAR}"/>'
            )
            end = width
            if bar.target is not None:
                mark = left + bar.target * scale
                parts.append(f'<path class="mark" d="M{mark:.1f} {y - 3:.1f}v{BAR + 6}"/>')
                end = max(width, bar.target * scale)
            text = number(bar.value) + (f" (≤ {number(bar.target)})" if bar.target is not None else "")
            parts.append(_text(left + end + 6, y + 12, text, "value"))
            y += BAR + BAR_GAP
        y += GROUP_GAP
    told = "; ".join(
        (f"{group.label}: " if group.label else "")
        + ", ".join(
            f"{bar.series} {number(bar.value)}"
            + (f" of at most {number(bar.target)}" if bar.target is not None else "")
            for bar in group.bars
        )
        for group in groups
    )
    return _svg(title, unit, f"{unit}. {told}.", y + 4, parts)


def lines(title: str, unit: str, x_unit: str, series: Sequence[Line]) -> str:
    """Lines through points on two logarithmic axes, named at their ends."""
    xs = sorted({x for line in series for x, _ in line.points})
    ys = [y for line in series for _, y in line.points]
    low, high = _decade_part(min(ys), down=True), _decade_part(max(ys), down=False)
    left, right, top = MARGIN + 40, WIDTH - MARGIN - 130, 76
    bottom = top + PLOT_HEIGHT

    def at_x(x: float) -> float:
        if len(xs) == 1:
            return (left + right) / 2
        return left + 20 + (right - left - 40) * math.log(x / xs[0]) / math.log(xs[-1] / xs[0])

    def at_y(y: float) -> float:
        return bottom - PLOT_HEIGHT * math.log(y / low) / math.log(high / low)

    parts: list[str] = []
    for tick in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{left} {at_y(tick):.1f}H{right}"/>')
        parts.append(_text(left - 8, at_y(tick) + 4, f"{tick:g}", "value", anchor="end"))
    parts += [_text(at_x(x), bottom + 20, f"{x:,.0f}", "value", anchor="middle") for x in xs]
    parts.append(_text((left + right) / 2, bottom + 42, x_unit, "unit", anchor="middle"))
    ends = []
    for line in series:
        name = _class(line.series)
        path = "L".join(f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in line.points)
        dash = f' stroke-dasharray="{DASHES[line.series]}"' if line.series in DASHES else ""
        parts.append(f'<path class="line {name}" d="M{path}"{dash}/>')
        parts += [
            f'<circle class="{name}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4">'
            f"<title>{escape(line.series)}, {x:,.0f}: {number(y)}</title></circle>"
            for x, y in line.points
        ]
        x, y = line.points[-1]
        ends.append((at_y(y), at_x(x), f"{line.series} {number(y)}"))
    parts += [_text(x + 10, y + 4, text, "label") for y, x, text in _apart(ends)]
    told = "; ".join(
        f"{line.series}: " + ", ".join(f"{number(y)} at {x:,.0f}" for x, y in line.points) for line in series
    )
    return _svg(title, unit, f"{unit}, by {x_unit}. {told}.", bottom + 58, parts)


def _apart(ends: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The labels, moved down until none covers another."""
    placed: list[tuple[float, float, str]] = []
    for y, x, text in sorted(ends):
        placed.append((max(y, placed[-1][0] + LINE_HEIGHT) if placed else y, x, text))
    return placed


def _ticks(low: float, high: float) -> list[float]:
    ticks = [part * 10.0**power for power in range(-4, 8) for part in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick * 1.000001 and tick <= high * 1.000001]


def _decade_part(value: float, *, down: bool) -> float:
    """The nearest 1, 2 or 5 times a power of ten that is not above (below) `value`."""
    ticks = _ticks(1e-4, 1e7)
    return max(t for t in ticks if t <= value) if down else min(t for t in ticks if t > value)


def _class(series: str) -> str:
    return "s-" + series.replace("_", "-")


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _style() -> str:
    def rules(ground: int) -> str:
        series = "".join(
            f".{_class(name)}{{fill:{colours[ground]};stroke:{colours[ground]}}}" for name, colours in COLOURS.items()
        )
        return (
            f".ground{{fill:{GROUND[ground]};stroke:{GRID[ground]}}}text{{fill:{TEXT[ground]}}}"
            f".label{{stroke:{GROUND[ground]}}}.unit,.value{{fill:{FAINT[ground]}}}.grid{{stroke:{GRID[ground]}}}.mark{{stroke:{TEXT[ground]}}}{series}"
        )

    return (
        "<style>text{font:13px system-ui,sans-serif}.title{font-size:16px;font-weight:600}.group{font-weight:600}"
        ".label{stroke-width:4;paint-order:stroke}"
        f"rect{{stroke-width:0}}.ground{{stroke-width:1}}.mark{{stroke-width:2}}{rules(0)}"
        f"@media(prefers-color-scheme:dark){{{rules(1)}}}path.line{{fill:none;stroke-width:2}}</style>"
    )


def _svg(title: str, unit: str, description: str, height: float, parts: list[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}"'
    labels = 'aria-labelledby="title description"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" {size} role="img" {labels}>',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        _style(),
        f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="6"/>',
        _text(MARGIN, 34, title, "title"),
        _text(MARGIN, 54, unit, "unit"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"
