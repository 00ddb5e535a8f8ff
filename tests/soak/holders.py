"""Who holds what should be gone: for the report of a soak that found something left."""

from __future__ import annotations

import gc
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

_DEPTH: Final = 4
_MOST: Final = 30
_WIDTH: Final = 160


def holders_of(thing: object) -> list[str]:
    """What refers to it, and what to that, a few steps up; further in for further away. ``thing`` in a list only."""
    lines: list[str] = []
    seen = {id(thing), id(lines)}

    def look(held: object, depth: int) -> None:
        referrers = gc.get_referrers(held)
        seen.add(id(referrers))
        for holder in referrers:
            if id(holder) in seen or len(lines) >= _MOST or _is_ours(holder):
                continue
            seen.add(id(holder))
            lines.append("  " * depth + _said(holder))
            if depth < _DEPTH and not isinstance(holder, ModuleType):
                look(holder, depth + 1)

    look(thing, 0)
    return lines or ["nobody: a reference was counted and not given back"]


def _is_ours(holder: Any) -> bool:
    """Frames that look for it."""
    return isinstance(holder, FrameType) and Path(holder.f_code.co_filename).parent == Path(__file__).parent


def _said(holder: Any) -> str:
    if isinstance(holder, FrameType):
        return f"frame of {holder.f_code.co_qualname}, line {holder.f_lineno}"
    return f"{type(holder).__qualname__} {holder!r}"[:_WIDTH]
