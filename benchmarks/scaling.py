"""What a delivery costs where there is more than one process: ``python -m benchmarks.scaling --help``.

Two nodes over a Redis of their own, tidegate and Node's socket.io with both of its Redis adapters; one hop; one host
with 1 and 2 workers; and a poll that reaches the node that does not own its session. Systems are interleaved, every run
starts all its processes anew, figures are medians.

Load: ``sioload``, clients by turns on both nodes, all in one room; the publisher is on the first node.
Invariant: every client gets every message once and in order; what was missing, repeated or reordered is noted, and if
it was tidegate's the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import cpu_share, forwarded_polls, nodes, table
from benchmarks.measure import LOAD_TIMEOUT_S, NOISE_PCT, SIOLOAD, Cores, Faults, Run
from benchmarks.nodes import SYSTEMS, Cluster, cpu_s, family, machine_cpu_s
from benchmarks.peers import BUILD, PeerError, exit_on_sigterm
from benchmarks.table import Table

OVER_REDIS: Final = (nodes.TIDEGATE_REDIS, nodes.TIDEGATE_DURABLE, nodes.NODE_REDIS, nodes.NODE_STREAMS)
#: Small enough for two of them, the load generator and the rest of the machine to have room on two cores.
WORKER_SHARE: Final = 0.25
ADAPTERS: Final = (nodes.NODE_REDIS, nodes.NODE_STREAMS)


@dataclass(frozen=True)
class Cell:
    """clients: of all nodes together, besides the publisher. rate: broadcasts a second, 0 for a closed loop of window.

    warmup_broadcasts: until then Node has compiled what is hot. by_turns: clients are on both nodes, else on the last
    one. per: what CPU is divided by. worker_share: of a core, that each worker is held to; 0 for no bound.
    """

    name: str
    title: str
    systems: tuple[str, ...]
    clients: int = 400
    window: int = 4
    rate: float = 0
    warmup_broadcasts: int = 400
    by_turns: bool = True
    per: str = "delivery"
    worker_share: float = 0

    def load_options(self, ports: list[int], seconds: float) -> list[str]:
        listeners = ports[0] if self.by_turns else ports[-1]
        options = ["--port", str(listeners), "--pub-port", str(ports[0]), "--mode", "broadcast", "--announce"]
        if self.by_turns and len(ports) > 1:
            options += ["--second-port", str(ports[-1])]
        options += ["--clients", str(self.clients), "--settle", "1", "--seconds", str(seconds)]
        options += ["--warmup", "2", "--warmup-broadcasts", str(self.warmup_broadcasts)]
        return options + (["--rate", str(self.rate)] if self.rate else ["--window", str(self.window)])


def _hop(name: str, window: int) -> Cell:
    return Cell(
        name,
        f"publisher and 1 listener, {window} in flight",
        (*OVER_REDIS, nodes.TIDEGATE_ALONE, nodes.NODE_ALONE),
        clients=1,
        window=window,
        warmup_broadcasts=10_000,
        by_turns=False,
        per="message",
    )


CELLS: Final = (
    Cell("redis-w4", "2 nodes, 200 clients each, 4 in flight", OVER_REDIS),
    _hop("hop", 1),
    _hop("hop-w32", 32),
    Cell("workers", "1 host, 400 clients, 4 in flight", (nodes.TIDEGATE_WORKERS_1, nodes.TIDEGATE_WORKERS_2)),
    Cell(
        "workers-held",
        f"1 host, 400 clients, 16 in flight, workers held to {WORKER_SHARE:.0%} of a core",
        (nodes.TIDEGATE_WORKERS_1, nodes.TIDEGATE_WORKERS_2),
        window=16,
        worker_share=WORKER_SHARE,
    ),
    Cell("redis-rate", "2 nodes, 200 clients each, 40 broadcasts a second", OVER_REDIS, rate=40),
    Cell("redis-w1", "2 nodes, 200 clients each, 1 in flight", OVER_REDIS, window=1),
)
POLLS: Final = "polls"


@dataclass
class Entry:
    """A system's runs in one cell. runs: ``figures_of`` each, what it lacks if it failed."""

    runs: list[dict[str, float]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    errors: list[str] = field(default_factory=list)

    def median(self, key: str) -> float | None:
        values = [run[key] for run in self.runs if key in run]
        return statistics.median(values) if values else None

    def spread(self, key: str) -> tuple[float, float] | None:
        values = [run[key] for run in self.runs if key in run]
        return (min(values), max(values)) if values else None

    @property
    def noisy(self) -> int:
        return sum(run.get("other_pct", 0) > NOISE_PCT for run in self.runs)


@dataclass(frozen=True)
class Used:
    """CPU seconds since their start. nodes: each, its workers included. everything: of the machine."""

    nodes: list[float]
    redis: float
    load: float
    everything: float

    @classmethod
    def now(cls, cluster: Cluster, load_pid: int) -> Used:
        parent_of = nodes.parents()
        return cls(
            [cpu_s(family(pid, parent_of)) for pid in cluster.pids],
            0.0 if cluster.redis_pid is None else cpu_s([cluster.redis_pid]),
            cpu_s([load_pid]),
            machine_cpu_s(),
        )


def figures_of(result: dict[str, Any], before: Used, after: Used, receivers: int, per: str) -> dict[str, float]:
    """What one run comes to. result: sioload's. receivers: of each broadcast. per: "delivery" or "message".

    CPU in µs for one of ``per``; Redis also for one broadcast; ``other_pct``: of one core, used by others.
    """
    deliveries = result["deliveries"]
    if not deliveries:
        return {}
    broadcasts = deliveries / receivers
    units = deliveries if per == "delivery" else broadcasts
    by_node = [(end - start) * 1e6 / units for start, end in zip(before.nodes, after.nodes, strict=True)]
    redis_us = (after.redis - before.redis) * 1e6
    ours = sum(after.nodes) - sum(before.nodes) + after.redis - before.redis + after.load - before.load
    return {
        "nodes_us": sum(by_node),
        "first_us": by_node[0],
        "last_us": by_node[-1],
        "redis_us": redis_us / units,
        "redis_us_per_broadcast": redis_us / broadcasts,
        "deliveries_per_s": result["deliveries_per_s"],
        "broadcasts_per_s": result["deliveries_per_s"] / receivers,
        "p50_ms": result["lat_p50_us"] / 1000,
        "p99_ms": result["lat_p99_us"] / 1000,
        "load_pct": 100 * (after.load - before.load) / result["seconds"],
        "other_pct": max(0.0, 100 * (after.everything - before.everything - ours) / result["seconds"]),
    }


def run_once(cell: Cell, system: str, seconds: float, cores: Cores) -> tuple[dict[str, float], Faults]:
    """Raises: PeerError if a node or the load did not come to an end as it should."""
    with ExitStack() as stack:
        cluster = stack.enter_context(nodes.running(SYSTEMS[system], cores))
        if cell.worker_share:
            stack.enter_context(cpu_share.held(nodes.workers(cluster), cell.worker_share))
        # Workers may use all cores, and then so may the load.
        pinned = ["taskset", "-c", str(cores.load)] if SYSTEMS[system].is_pinned else []
        command = [*pinned, str(SIOLOAD), *cell.load_options(cluster.ports, seconds)]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watchdog = threading.Timer(LOAD_TIMEOUT_S, load.kill)
        watchdog.start()
        try:
            samples, words = _samples(load, cluster)
            assert load.stdout is not None
            told = load.stdout.read()
            load.wait()
        finally:
            watchdog.cancel()
            if load.poll() is None:
                load.kill()
                load.wait()
        cluster.check_alive()
    if load.returncode or len(samples) != 2:
        raise PeerError(f"load exited with {load.returncode}: {' '.join(words)[-300:]} {told[-200:]}")
    result = json.loads(told)
    return figures_of(result, *samples, receivers=cell.clients + 1, per=cell.per), Run(result).faults


def _samples(load: subprocess.Popen[str], cluster: Cluster) -> tuple[list[Used], list[str]]:
    """What was used when the measuring began and when it ended; and what else the load said."""
    assert load.stderr is not None
    samples, words = [], []
    for line in load.stderr:
        if line.strip() in ("sioload: measuring", "sioload: measured"):
            samples.append(Used.now(cluster, load.pid))
        else:
            words.append(line.strip())
    return samples, words


def measure(cell: Cell, runs: int, seconds: float, cores: Cores, tell: Callable[[str], None]) -> dict[str, Entry]:
    """All runs of a cell by system, interleaved; each round begins with another system."""
    entries = {name: Entry() for name in cell.systems}
    for turn in range(runs):
        first = turn % len(cell.systems)
        for name in cell.systems[first:] + cell.systems[:first]:
            entry = entries[name]
            try:
                figures, faults = run_once(cell, name, seconds, cores)
            except PeerError as error:
                entry.errors.append(str(error))
                tell(f"{cell.name}  {name}, run {turn + 1}: {error}")
                continue
            entry.runs.append(figures)
            entry.faults += faults
            words = ", ".join(f"{key} {value:.1f}" for key, value in figures.items())
            tell(f"{cell.name}  {name}, run {turn + 1}: {words}{f', {faults}' if faults else ''}")
    return entries


def as_table(cell: Cell, entries: dict[str, Entry]) -> Table:
    headings = [cell.title, "nodes µs", "lowest to highest", "Redis µs", "Redis µs/broadcast", "deliveries/s"]
    headings += ["p50 ms", "p99 ms", *(f"÷ {name}" for name in ADAPTERS if name in entries), "notes"]
    rows = []
    for name, entry in entries.items():
        spread = entry.spread("nodes_us")
        row = [name, _figure(entry.median("nodes_us"), 2)]
        row += ["-" if spread is None else f"{_figure(spread[0], 2)} to {_figure(spread[1], 2)}"]
        row += [_figure(entry.median("redis_us"), 2), _figure(entry.median("redis_us_per_broadcast"), 1)]
        row += [_figure(entry.median("deliveries_per_s"), 0)]
        row += [_figure(entry.median("p50_ms"), 2), _figure(entry.median("p99_ms"), 2)]
        for other in ADAPTERS:
            if other in entries:
                row.append(_figure(_ratio(entry.median("nodes_us"), entries[other].median("nodes_us")), 2))
        rows.append([*row, "; ".join(_notes(entry))])
    return Table(headings, rows, range(1, len(headings) - 1))


def hops(entries: dict[str, Entry]) -> Table:
    """What the way over Redis adds to a message of one process, by system: nodes, and with Redis."""
    rows = []
    for name, entry in entries.items():
        if not SYSTEMS[name].redis:
            continue
        by_itself = entries.get(nodes.TIDEGATE_ALONE if SYSTEMS[name].adapter is None else nodes.NODE_ALONE, Entry())
        alone, two, redis = by_itself.median("nodes_us"), entry.median("nodes_us"), entry.median("redis_us")
        if alone is None or two is None or redis is None:
            rows.append([name, "-", "-", "-"])
        else:
            rows.append([name, _figure(two - alone, 1), _figure(redis, 1), _figure(two - alone + redis, 1)])
    return Table(["one hop, µs", "both nodes, beyond one process", "Redis", "together"], rows, range(1, 4))


def dearer(cell: Cell, entries: dict[str, Entry]) -> Iterator[str]:
    """Where tidegate takes more CPU for one of ``cell.per`` than an adapter of Node's."""
    for name in (nodes.TIDEGATE_REDIS, nodes.TIDEGATE_DURABLE):
        for other in ADAPTERS:
            if name in entries and other in entries:
                ratio = _ratio(entries[name].median("nodes_us"), entries[other].median("nodes_us"))
                if ratio is not None and ratio >= 1:
                    yield f"{cell.name}: {name} costs {ratio:.2f} of {other}"


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _notes(entry: Entry) -> list[str]:
    faults, notes = entry.faults, []
    if faults.missing or faults.repeated or faults.reordered:
        notes.append(f"FAULTS {faults.missing}/{faults.repeated}/{faults.reordered}")
    if faults.other:
        notes.append(f"{faults.other} other faults")
    if entry.noisy:
        notes.append(f"{entry.noisy} of {len(entry.runs)} runs NOISY")
    return notes + entry.errors[:1]


def _is_bad(entries: dict[str, Entry]) -> bool:
    """Whether tidegate lost, repeated or reordered anything, or could not be measured."""
    ours = [entry for name, entry in entries.items() if SYSTEMS[name].adapter is None]
    return any(entry.faults or entry.errors or not any(entry.runs) for entry in ours)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each system in each cell (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured in each run (3)")
    parser.add_argument("--only", help=f"one cell: {', '.join([*(cell.name for cell in CELLS), POLLS])}")
    parser.add_argument("--out", type=Path, default=BUILD / "scaling.json", help="JSON of all runs goes here")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    options = parser.parse_args()
    names = [*(cell.name for cell in CELLS), POLLS]
    if options.only not in (None, *names) or options.runs < 1:
        parser.error(f"cells are {', '.join(names)}; at least one run")
    if not SIOLOAD.exists() or not (nodes.NODE_CLUSTER / "node_modules").exists():
        parser.error("the load generator or the packages of Node are not there; `make bench-scaling` makes them")
    exit_on_sigterm()
    cores = Cores.of_this_machine()
    render = table.as_markdown if options.markdown else table.as_text
    whole: dict[str, Any] = {"machine": {"system": platform.platform(), "cores": os.cpu_count()}, "cells": {}}
    is_bad = False
    over: list[str] = []
    for cell in CELLS:
        if options.only not in (None, cell.name):
            continue
        entries = measure(cell, options.runs, options.seconds, cores, _tell)
        print(render(as_table(cell, entries)), end="\n\n", flush=True)
        if nodes.NODE_ALONE in entries:
            print(render(hops(entries)), end="\n\n", flush=True)
        is_bad = is_bad or _is_bad(entries)
        over += dearer(cell, entries)
        whole["cells"][cell.name] = {
            name: {"runs": entry.runs, "faults": vars(entry.faults), "errors": entry.errors}
            for name, entry in entries.items()
        }
        _write(options.out, whole)
    if options.only in (None, POLLS):
        polls = forwarded_polls.measure(options.runs, cores, _tell)
        print(render(forwarded_polls.as_table(polls)), end="\n\n", flush=True)
        whole["cells"][POLLS] = polls
        _write(options.out, whole)
    for words in over:
        print(f"NOT CHEAPER  {words}")
    return int(is_bad)


def _write(path: Path, whole: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
