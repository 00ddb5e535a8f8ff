"""Measures tidegate, Node's socket.io and others side by side: python -m benchmarks.run --help."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import charts, document, plan, table, targets
from benchmarks.measure import SIOLOAD, CellResult, Cores, measure_cell
from benchmarks.peers import PEERS, TIDEGATE, exit_on_sigterm


def main() -> int:
    options = _options()
    cells = plan.select(options.only)
    if options.list:
        for cell in cells:
            print(f"{cell.name:26} {cell.title}")
        return 0
    if not cells:
        print(f"no cell matches {options.only}; --list names them", file=sys.stderr)
        return 2
    if not SIOLOAD.exists():
        print("the load generator is not built; scripts/bench does that", file=sys.stderr)
        return 2
    exit_on_sigterm()
    cores = Cores.of_this_machine()
    if cores.server == cores.load:
        _tell("only one core: server and load share it, and ratios say less")
    timing = plan.QUICK if options.quick else plan.FULL
    runs = options.runs or (1 if options.quick else 3)
    results = []
    began = time.monotonic()
    for cell in cells:
        if not set(cell.peers) & set(options.peers):
            continue
        result = measure_cell(cell, options.peers, runs, timing, cores, options.retry, _tell)
        if result.skipped:
            _tell(f"{cell.name}  skipped: {result.skipped}")
        results.append(result)
        _write(options.out, options, results)  # after each cell: a run that is broken off is not lost
    render = table.as_markdown if options.markdown else table.as_text
    print(render(table.figures(results, options.peers)), table.LEGEND, sep="\n\n")
    if rows := targets.reached(results):
        print("", render(table.targets(rows)), table.TARGET_LEGEND, sep="\n\n")
    _tell(f"all runs: {os.path.relpath(options.out)}; {(time.monotonic() - began) / 60:.1f} minutes")
    if options.charts:
        for path in charts.write(json.loads(options.out.read_text()), options.charts):
            _tell(f"chart: {os.path.relpath(path)}")
    return int(any(_is_bad(result) for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run per cell, to see that all works")
    parser.add_argument("--runs", type=_positive, help="runs per cell and peer (3; 1 with --quick)")
    parser.add_argument("--only", metavar="PATTERN", help="this cell, or those whose name contains or matches it")
    parser.add_argument("--peers", type=_peers, default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--retry", type=int, default=2, metavar="N", help="repeat a noisy run up to N times (2)")
    parser.add_argument("--out", type=Path, default=SIOLOAD.parent / "results.json", help="JSON goes here")
    parser.add_argument("--charts", type=Path, metavar="FOLDER", help="also draw charts (SVG) there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--list", action="store_true", help="name the cells and stop")
    return parser.parse_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _peers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return [name for name in PEERS if name in names]


def _is_bad(result: CellResult) -> bool:
    """Whether tidegate lost, repeated or reordered anything, or could not be measured."""
    entries = [entry for entry in (result.entries.get(TIDEGATE), result.control) if entry is not None]
    return any(entry.faults or entry.errors or entry.median(result.cell.measures[0]) is None for entry in entries)


def _write(path: Path, options: argparse.Namespace, results: list[CellResult]) -> None:
    whole: dict[str, Any] = {
        "machine": {"system": platform.platform(), "cpu": _cpu_model(), "cores": os.cpu_count()},
        "versions": {name: PEERS[name].versions() for name in options.peers},
        "quick": options.quick,
        **document.of(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
