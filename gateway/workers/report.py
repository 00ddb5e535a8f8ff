"""What a worker tells of itself, and how many workers are shown together."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

import psutil

from transports.engine import Engine
from transports.peers.forwarder import PeerForwarder

#: Totals since start: those of workers that have ended stay in the sums.
TOTALS: Final = ("opened", "messages_in", "messages_out", "bytes_out", "cpu_s")
#: What is so at the moment.
LEVELS: Final = ("sessions", "memory_bytes")
_HEADINGS: Final[tuple[str, ...]] = (
    *("WORKER", "PID", "ID", "STATE", "SESSIONS", "IN", "OUT"),
    *("MEMORY", "CPU", "LAG", "RESTARTS", "AGE"),
)
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def of_worker(engines: Iterable[Engine], forwarder: PeerForwarder) -> dict[str, Any]:
    """A report of this process."""
    engines = list(engines)
    used = resource.getrusage(resource.RUSAGE_SELF)
    refused: Counter[str] = Counter()
    for engine in engines:
        refused.update(engine.counters.refused)
    lag = engines[0].loop_lag.dump() if engines else None
    return {
        "sessions": sum(len(engine.sockets) for engine in engines),
        "opened": sum(engine.counters.opened for engine in engines),
        "messages_in": sum(engine.counters.messages_in for engine in engines),
        "messages_out": sum(engine.counters.messages_out for engine in engines),
        "bytes_out": sum(engine.counters.bytes_out for engine in engines),
        "refused": dict(refused),
        "forwarded": asdict(forwarder.counters),
        "memory_bytes": psutil.Process().memory_info().rss,
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "loop_lag_s": 0.0 if lag is None else lag["mean_s"],
        "max_loop_lag_s": 0.0 if lag is None else lag["max_s"],
    }


def add(first: Mapping[str, Any], second: Mapping[str, Any], *, levels: bool) -> dict[str, Any]:
    """Two reports summed; ``levels``: also what is so at the moment."""
    names = (*TOTALS, *LEVELS) if levels else TOTALS
    summed: dict[str, Any] = {name: round(first.get(name, 0) + second.get(name, 0), 3) for name in names}
    for name in ("refused", "forwarded"):
        one, other = first.get(name, {}), second.get(name, {})
        summed[name] = {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
    return summed


def as_table(answers: Iterable[Mapping[str, Any]]) -> str:
    """For people: a table for each supervisor."""
    tables = []
    for answer in answers:
        rows = [_HEADINGS]
        rows += [_row(each, str(each["index"]), each["pid"], each["id"], each["state"]) for each in answer["workers"]]
        restarts = sum(worker["restarts"] for worker in answer["workers"])
        rows.append(_row({**answer["total"], "restarts": restarts}, "all", answer["pid"], "", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [f"{', '.join(answer['listening'])}  {answer['state']}"]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def _row(told: Mapping[str, Any], index: str, pid: int, worker_id: str, state: str) -> tuple[str, ...]:
    return (
        index,
        str(pid),
        worker_id,
        state,
        *(str(told.get(name, 0)) for name in ("sessions", "messages_in", "messages_out")),
        _bytes(told.get("memory_bytes", 0)),
        f"{told.get('cpu_s', 0):.1f}s",
        f"{told['loop_lag_s'] * 1000:.1f}ms" if "loop_lag_s" in told else "",
        str(told["restarts"]),
        f"{told['age_s']:.0f}s" if "age_s" in told else "",
    )


def _bytes(number: float) -> str:
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.0f}{unit}" if number >= 100 or unit == "B" else f"{number:.1f}{unit}"
