"""Sampled stacks: read as a profiler writes them, summed up by function, and written for speedscope."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

Stack = tuple[str, ...]  # outermost frame first


@dataclass(frozen=True)
class Line:
    """Samples with `frame` as the innermost one (own), and with it anywhere on the stack (with_callees)."""

    frame: str
    own: int
    with_callees: int


def parse(text: str) -> Counter[Stack]:
    """Lines of `outer;inner COUNT`, as ``py-spy record --format raw`` writes them.  Raises: ValueError."""
    stacks: Counter[Stack] = Counter()
    for line in text.splitlines():
        if line.strip():
            frames, _, count = line.rpartition(" ")
            stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def top(stacks: Counter[Stack]) -> list[Line]:
    """Every frame, the ones with most samples of their own first."""
    own: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for frame in set(stack):  # once, however deep it recurses
            with_callees[frame] += count
    lines = [Line(frame, own[frame], with_callees[frame]) for frame in with_callees]
    return sorted(lines, key=lambda line: (-line.own, -line.with_callees, line.frame))


def table(stacks: Counter[Stack], rows: int = 20) -> str:
    """The top as text; percentages of all samples."""
    total = stacks.total()
    if not total:
        return "no samples"
    lines = [f"{total:,} samples", "   own  with callees  frame"]
    lines += [f"{line.own / total:6.1%} {line.with_callees / total:13.1%}  {line.frame}" for line in top(stacks)[:rows]]
    return "\n".join(lines)


def speedscope(stacks: Counter[Stack], name: str) -> dict[str, Any]:
    """The document that https://www.speedscope.app reads; weights are samples."""
    numbers: dict[str, int] = {}
    samples = [[numbers.setdefault(frame, len(numbers)) for frame in stack] for stack in stacks]
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": frame} for frame in numbers]},
        "profiles": [
            {
                "type": "sampled",
                "name": name,
                "unit": "none",
                "startValue": 0,
                "endValue": stacks.total(),
                "samples": samples,
                "weights": list(stacks.values()),
            }
        ],
    }
