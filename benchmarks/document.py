"""The results for programs: what goes into the JSON file, and what charts are drawn from."""

from dataclasses import asdict
from typing import Any

from benchmarks.measure import CellResult, Entry
from benchmarks.peers import TIDEGATE
from benchmarks.plan import GROWTHS, Measure
from benchmarks.targets import growth_of, ratio, reached


def of(results: list[CellResult]) -> dict[str, Any]:
    measured = {result.cell.name: result for result in results}
    return {
        "cells": [_cell(result) for result in results],
        "growths": [
            {
                "name": growth.name,
                "title": growth.title,
                "peers": {peer: growth_of(growth, measured, peer) for peer in measured[growth.large].entries},
            }
            for growth in GROWTHS
            if growth.large in measured and growth.small in measured
        ],
        "targets": [{**asdict(row), "met": row.met} for row in reached(results)],
    }


def _cell(result: CellResult) -> dict[str, Any]:
    cell = result.cell
    return {
        "cell": cell.name,
        "title": cell.title,
        "clients": cell.clients,
        "skipped": result.skipped,
        "figures": [_figure(result, measure) for measure in cell.measures],
        "peers": {name: _entry(entry) for name, entry in result.entries.items()},
        "control": None if result.control is None else _entry(result.control),
    }


def _figure(result: CellResult, measure: Measure) -> dict[str, Any]:
    ours = result.entries.get(TIDEGATE)
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "peers": {name: entry.median(measure) for name, entry in result.entries.items()},
        "control": None if result.control is None else result.control.median(measure),
        "ratios": {name: ratio(ours, entry, measure) for name, entry in result.entries.items() if name != TIDEGATE},
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "transport": entry.transport,
        "faults": asdict(entry.faults),
        "noisy": entry.noisy,
        "errors": entry.errors,
        "runs": [run.result for run in entry.runs],
        "noisy_runs": [run.result for run in entry.noisy_runs],
    }
