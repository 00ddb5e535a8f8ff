"""Running a cell: each peer in turn under sioload, again when the machine was busy with something else."""

import json
import os
import resource
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers import BUILD, PEERS, TIDEGATE, PeerError, running
from benchmarks.plan import Cell, Measure, Timing

SIOLOAD = BUILD / "sioload"
NOISE_PCT = 15  # of one core, used by neither server nor load: above it figures mean little
LOAD_TIMEOUT_S = 240

# sioload's counts, by what they mean to the clients.
MISSING = ("missing", "missing_on_dropped", "unanswered")
REPEATED = ("duplicate",)
REORDERED = ("out_of_order", "stale")
OTHER = ("connect_failed", "disconnects", "errors", "bad_payload", "foreign", "stalled")


@dataclass(frozen=True)
class Faults:
    """Messages that did not arrive once, in order; other: lost clients and answers that were wrong."""

    missing: int = 0
    repeated: int = 0
    reordered: int = 0
    other: int = 0

    def __bool__(self) -> bool:
        return bool(self.missing or self.repeated or self.reordered or self.other)

    def __add__(self, more: "Faults") -> "Faults":
        return Faults(
            self.missing + more.missing,
            self.repeated + more.repeated,
            self.reordered + more.reordered,
            self.other + more.other,
        )


@dataclass(frozen=True)
class Run:
    """One start of one peer. result: sioload's, or empty with an `error`."""

    result: dict[str, Any]
    noisy: bool = False
    error: str | None = None

    @property
    def faults(self) -> Faults:
        def count(keys: tuple[str, ...]) -> int:
            return sum(int(self.result.get(key, 0)) for key in keys)

        return Faults(count(MISSING), count(REPEATED), count(REORDERED), count(OTHER))


@dataclass
class Entry:
    """A peer's runs in one cell: the kept ones, and those that were repeated because of noise."""

    peer: str
    transport: str
    runs: list[Run] = field(default_factory=list)
    noisy_runs: list[Run] = field(default_factory=list)

    def median(self, measure: Measure) -> float | None:
        """Of the kept runs, in the measure's unit; None when no run came to an end."""
        values = [run.result[measure.key] for run in self.runs if measure.key in run.result]
        return statistics.median(values) * measure.scale if values else None

    @property
    def faults(self) -> Faults:
        """Of every run, the noisy too: a busy machine excuses slowness, not loss."""
        return sum((run.faults for run in [*self.runs, *self.noisy_runs]), Faults())

    @property
    def noisy(self) -> int:
        return sum(run.noisy for run in self.runs)

    @property
    def errors(self) -> list[str]:
        return [run.error for run in [*self.runs, *self.noisy_runs] if run.error]


@dataclass
class CellResult:
    """entries: by peer. control: tidegate over the cell's control transport."""

    cell: Cell
    entries: dict[str, Entry] = field(default_factory=dict)
    control: Entry | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class Cores:
    server: int
    load: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first two cores that this process may use; the same one twice if there is but one."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[1] if len(allowed) > 1 else allowed[0])


def raise_descriptor_limit(needed: int) -> int:
    """Lets this process and its children open `needed` files where allowed; returns what they may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((needed, max(hard, needed)), (min(needed, hard), hard)):
        if soft >= limits[0]:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def measure_cell(
    cell: Cell,
    peers: list[str],
    runs: int,
    timing: Timing,
    cores: Cores,
    retries: int,
    tell: Callable[[str], None],
) -> CellResult:
    """All runs of a cell, the peers interleaved; each round begins with another peer."""
    outcome = CellResult(cell)
    allowed = raise_descriptor_limit(cell.descriptors)
    if allowed < cell.descriptors:
        outcome.skipped = (
            f"needs {cell.descriptors:,} open files but the hard limit is {allowed:,}; raise it (ulimit -Hn)"
        )
        return outcome
    for name in peers:
        if name in cell.peers:
            outcome.entries[name] = Entry(name, cell.transport)
    entries = list(outcome.entries.values())
    if cell.control and TIDEGATE in outcome.entries:
        outcome.control = Entry(TIDEGATE, cell.control)
        entries.append(outcome.control)
    for turn in range(min(runs, cell.max_runs or runs)):
        first = turn % len(entries) if entries else 0
        for entry in entries[first:] + entries[:first]:
            _measure_once(cell, entry, timing, cores, retries)
            tell(f"{cell.name}  {entry.peer} over {entry.transport}, run {turn + 1}: {_told(entry, cell)}")
    return outcome


def _measure_once(cell: Cell, entry: Entry, timing: Timing, cores: Cores, retries: int) -> None:
    for attempt in range(retries + 1):
        run = _run(entry.peer, cell, cell.load_options(entry.transport, timing), cores)
        if not run.noisy or attempt == retries:
            entry.runs.append(run)
            return
        entry.noisy_runs.append(run)


def _run(peer: str, cell: Cell, options: list[str], cores: Cores) -> Run:
    try:
        with running(PEERS[peer], cores.server, cell.server) as server:
            result = _load(server.port, server.process.pid, options, cores)
            server.check_alive()
    except PeerError as e:
        return Run({}, error=str(e))
    # Memory is what it is, however busy the machine.
    noisy = cell.mode != "idle" and result.get("other_cpu_pct", 0) > NOISE_PCT
    return Run(result, noisy=noisy, error=result.get("error"))


def _load(port: int, pid: int, options: list[str], cores: Cores) -> dict[str, Any]:
    command = ["taskset", "-c", str(cores.load), str(SIOLOAD), "--port", str(port)]
    command += ["--server-pid", str(pid), "--server-core", str(cores.server), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"load not done after {LOAD_TIMEOUT_S} s"}
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        result = {"error": f"load exited with {done.returncode}: {done.stderr.strip()[-200:]}"}
    if done.stderr:
        result["load_says"] = done.stderr[-500:]
    return result


def _told(entry: Entry, cell: Cell) -> str:
    run = entry.runs[-1]
    if run.error:
        return run.error
    measure = cell.measures[0]
    value = run.result.get(measure.key)
    text = "nothing measured" if value is None else f"{value * measure.scale:.1f} {measure.unit}"
    if run.faults:
        text += f", {run.faults}"
    if run.noisy:
        text += f", noisy ({run.result['other_cpu_pct']:.0f} % of a core used by others)"
    return text
