"""The results for people, plain or as Markdown: the figures, and the targets."""

from dataclasses import dataclass

from benchmarks.measure import CellResult, Entry
from benchmarks.peers import BUN, FLOOR, NODE, PYTHON_SOCKETIO, TIDEGATE
from benchmarks.plan import Measure
from benchmarks.targets import Reached, ratio

NONE = "-"
DIVISORS = (NODE, PYTHON_SOCKETIO, BUN, FLOOR)

LEGEND = (
    "Medians of the runs; lower is better, but for calls/s. µs: CPU time of the server.\n"
    "÷: tidegate's figure by the peer's. c_floor: C that only sends.\n"
    "Where no FAULTS (messages missing/repeated/reordered) are noted, every run of every server had none."
)
TARGET_LEGEND = "At most, reached: tidegate's figure, or its figure by the other's. Differences below 20 % say little."


@dataclass(frozen=True)
class Table:
    """numeric: columns that are aligned right."""

    headings: list[str]
    rows: list[list[str]]
    numeric: range


def figures(results: list[CellResult], peers: list[str]) -> Table:
    """A row for each measure of each cell."""
    divisors = [other for other in DIVISORS if TIDEGATE in peers and other in peers]
    headings = ["load", "unit", *peers, *[f"÷ {other}" for other in divisors], "notes"]
    rows = []
    for result in results:
        for measure in result.cell.measures:
            entries = result.entries
            row = [result.cell.title, measure.unit]
            row += [_number(entries.get(peer), measure) for peer in peers]
            row += [_ratio(ratio(entries.get(TIDEGATE), entries.get(other), measure)) for other in divisors]
            is_first = measure is result.cell.measures[0]
            rows.append([*row, "; ".join(_notes(result, measure)) if is_first else ""])
    return Table(headings, rows, range(2, len(headings) - 1))


def targets(rows: list[Reached]) -> Table:
    verdicts = {True: "yes", False: "NO", None: NONE}
    return Table(
        ["load", "figure", "at most", "reached", "met", "others"],
        [
            [
                row.title,
                row.figure,
                _limit(row.limit),
                NONE if row.value is None else _plain(row.value),
                verdicts[row.met],
                ", ".join(f"{name} {_plain(value)}" for name, value in row.others.items()),
            ]
            for row in rows
        ],
        range(2, 4),
    )


def as_text(table: Table) -> str:
    rows = [table.headings, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.headings))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if i in table.numeric else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.headings))]
    rows = [table.headings, rule, *table.rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)


def _number(entry: Entry | None, measure: Measure) -> str:
    value = None if entry is None else entry.median(measure)
    return NONE if value is None else _plain(value, digits=1)


def _plain(value: float, digits: int = 2) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}f}"


def _limit(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _notes(result: CellResult, measure: Measure) -> list[str]:
    if result.skipped:
        return [f"skipped: {result.skipped}"]
    notes = []
    if result.control is not None:
        part = ratio(result.entries[TIDEGATE], result.control, measure)
        if part is not None:
            notes.append(f"{part:.2f} of its own {result.control.transport} ({_number(result.control, measure)})")
    for name, entry in _named_entries(result):
        faults = entry.faults
        if faults.missing or faults.repeated or faults.reordered:
            notes.append(f"{name}: FAULTS {faults.missing}/{faults.repeated}/{faults.reordered}")
        if faults.other:
            notes.append(f"{name}: {faults.other} other faults")
        if entry.noisy:
            notes.append(f"{name}: {entry.noisy} of {len(entry.runs)} runs NOISY")
        if entry.errors:
            notes.append(f"{name}: {entry.errors[0]}")
    return notes


def _named_entries(result: CellResult) -> list[tuple[str, Entry]]:
    named = list(result.entries.items())
    if result.control is not None:
        named.append((f"{result.control.peer} over {result.control.transport}", result.control))
    return named
