"""The results for people (plain or Markdown) and for programs (JSON)."""

from dataclasses import asdict
from typing import Any

from benchmarks.measure import CellResult, Entry
from benchmarks.peers import NODE, PYTHON_SOCKETIO, TIDEGATE

NONE = "-"
NUMERIC_FROM = 2  # columns from here on are aligned right, but for the last


def _headings(peers: list[str]) -> list[str]:
    ratios = [f"÷ {other}" for other in (NODE, PYTHON_SOCKETIO) if TIDEGATE in peers and other in peers]
    return ["load", "unit", *peers, *ratios, *[f"faults {peer}" for peer in peers], "notes"]


def _row(result: CellResult, peers: list[str]) -> list[str]:
    entries = result.entries
    row = [result.cell.title, result.cell.unit]
    row += [_number(entries.get(peer)) for peer in peers]
    for other in (NODE, PYTHON_SOCKETIO):
        if TIDEGATE in peers and other in peers:
            value = ratio(entries.get(TIDEGATE), entries.get(other))
            row.append(NONE if value is None else f"{value:.2f}")
    row += [_faults(entries.get(peer)) for peer in peers]
    return [*row, "; ".join(_notes(result))]


def ratio(ours: Entry | None, theirs: Entry | None) -> float | None:
    """What we use of what they use: below 1 is cheaper."""
    if ours is None or theirs is None or ours.value is None or not theirs.value:
        return None
    return ours.value / theirs.value


def _number(entry: Entry | None) -> str:
    if entry is None or entry.value is None:
        return NONE
    return f"{entry.value:,.0f}" if entry.value >= 100 else f"{entry.value:.1f}"


def _faults(entry: Entry | None) -> str:
    if entry is None or not any(run.result for run in entry.runs):
        return NONE
    return f"{entry.faults.missing}/{entry.faults.repeated}/{entry.faults.reordered}"


def _notes(result: CellResult) -> list[str]:
    if result.skipped:
        return [f"skipped: {result.skipped}"]
    notes = []
    if result.control is not None:
        control, streamed = result.control, result.entries[TIDEGATE]
        part = ratio(streamed, control)
        if part is not None:
            notes.append(f"{part:.2f} of its own {control.transport} ({_number(control)})")
    for name, entry in _named_entries(result):
        if entry.noisy:
            notes.append(f"{name}: {entry.noisy} of {len(entry.runs)} runs NOISY")
        if entry.faults.other:
            notes.append(f"{name}: {entry.faults.other} other faults")
        if entry.errors:
            notes.append(f"{name}: {entry.errors[0]}")
    return notes


def _named_entries(result: CellResult) -> list[tuple[str, Entry]]:
    named = list(result.entries.items())
    if result.control is not None:
        named.append((f"{result.control.peer} over {result.control.transport}", result.control))
    return named


LEGEND = (
    "Server CPU per operation, or memory per client: the median of the runs, lower is better.\n"
    "÷: tidegate's figure by the peer's. Faults: messages missing/repeated/reordered in all runs."
)


def as_text(results: list[CellResult], peers: list[str]) -> str:
    rows = [_headings(peers), *[_row(result, peers) for result in results]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    lines = []
    for row in rows:
        cells = [
            text.rjust(widths[i]) if NUMERIC_FROM <= i < last else text.ljust(widths[i]) for i, text in enumerate(row)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", LEGEND])


def as_markdown(results: list[CellResult], peers: list[str]) -> str:
    headings = _headings(peers)
    last = len(headings) - 1
    rule = ["---:" if NUMERIC_FROM <= i < last else "---" for i in range(len(headings))]
    rows = [headings, rule, *[_row(result, peers) for result in results]]
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    return "\n".join([*lines, "", LEGEND])


def as_json(results: list[CellResult]) -> list[dict[str, Any]]:
    return [
        {
            "cell": result.cell.name,
            "title": result.cell.title,
            "measure": result.cell.measure,
            "unit": result.cell.unit,
            "skipped": result.skipped,
            "peers": {name: _entry_json(entry) for name, entry in result.entries.items()},
            "control": None if result.control is None else _entry_json(result.control),
            "ratios": {
                other: ratio(result.entries.get(TIDEGATE), result.entries.get(other))
                for other in (NODE, PYTHON_SOCKETIO)
            },
        }
        for result in results
    ]


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "transport": entry.transport,
        "median": entry.value,
        "faults": asdict(entry.faults),
        "noisy": entry.noisy,
        "errors": entry.errors,
        "runs": [run.result for run in entry.runs],
        "noisy_runs": [run.result for run in entry.noisy_runs],
    }
