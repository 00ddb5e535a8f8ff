"""Results of cells as the benchmarks keep them, made from figures."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import CellResult, Entry, Run
from benchmarks.plan import CELLS, Cell


def cell(name: str) -> Cell:
    return next(cell for cell in CELLS if cell.name == name)


def result(name: str, *, control: float | None = None, more: dict[str, Any] | None = None, **peers: Any) -> CellResult:
    """A cell that was run: a figure of its first measure, or one for each run, by peer (with _ for -)."""
    measured = CellResult(cell(name))
    key = measured.cell.measures[0].key
    for peer, figures in peers.items():
        runs = [Run({key: figure, **(more or {})}) for figure in (figures if isinstance(figures, list) else [figures])]
        measured.entries[_peer(peer)] = Entry(_peer(peer), measured.cell.transport, runs)
    if control is not None:
        measured.control = Entry("tidegate", measured.cell.control or "", [Run({key: control})])
    return measured


def _peer(name: str) -> str:
    return name if name.startswith("c_") else name.replace("_", "-")
