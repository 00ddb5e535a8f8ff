"""A flame graph as one SVG file: width is time, callees hang below their callers, each box tells its numbers."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from benchmarks.stacks import Stack

WIDTH = 1400
ROW = 17
LETTER = 6.6  # pixels of one, on average
NARROWEST = 0.4  # pixels: below it a box is not drawn
HEAD = 44

# By where the code is: the application and tidegate, other Python, native code.
COLOURS = {"ours": "#8ec5ff", "python": "#b7e3a8", "native": "#ffc078"}
OURS = re.compile(r"\((?:.*/)?(?:gateway|transports|benchmarks)/")
PYTHON = re.compile(r"(?:\.py|\(<[^>]+>)(?::\d+)?\)$")


@dataclass
class _Box:
    samples: int = 0
    inner: dict[str, "_Box"] = field(default_factory=dict)


def kind(frame: str) -> str:
    if OURS.search(frame):
        return "ours"
    return "python" if PYTHON.search(frame) else "native"


def draw(stacks: Counter[Stack], title: str) -> str:
    """The same stacks give the same bytes."""
    root = _Box()
    for stack, count in stacks.items():
        root.samples += count
        box = root
        for frame in stack:
            box = box.inner.setdefault(frame, _Box())
            box.samples += count
    scale = WIDTH / (root.samples or 1)
    drawn = list(_boxes(root, 0.0, 0, scale))
    height = HEAD + ROW * (1 + max((depth for _, _, _, depth in drawn), default=0)) + 8
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    heading = f"{escape(title)}: {root.samples:,} samples"
    key = "Blue: tidegate. Green: other Python. Orange: native. Point at a box for its numbers."
    fills = "".join(f".{name}{{fill:{colour}}}" for name, colour in COLOURS.items())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
        f'<title id="title">{heading}</title>',
        f"<style>text{{font:11px monospace;fill:#1f2328}}rect{{stroke:#fff;stroke-width:.5}}{fills}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18">{heading}. {key}</text>',
    ]
    for frame, samples, left, depth in drawn:
        parts.append(_drawn(frame, samples, left * scale, samples * scale, HEAD + depth * ROW, root.samples))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _boxes(box: _Box, left: float, depth: int, scale: float) -> Iterator[tuple[str, int, float, int]]:
    """Frame, samples, samples to the left of it, depth; those that can be seen."""
    for frame in sorted(box.inner):
        inner = box.inner[frame]
        if inner.samples * scale >= NARROWEST:
            yield frame, inner.samples, left, depth
            yield from _boxes(inner, left, depth + 1, scale)
        left += inner.samples


def _drawn(frame: str, samples: int, x: float, width: float, y: int, total: int) -> str:
    letters = int((width - 4) / LETTER)
    label = ""
    if letters >= 3:
        short = frame if len(frame) <= letters else frame[: letters - 1] + "…"
        label = f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(short)}</text>'
    return (
        f"<g><title>{escape(frame)}: {samples:,} samples, {samples / total:.1%}</title>"
        f'<rect class="{kind(frame)}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}"/>{label}</g>'
    )
