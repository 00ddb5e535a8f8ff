"""What is promised while each thing happens, and whether it was kept, by what clients have counted.

In all of them, for every client from one time that it begins anew to the next (an *epoch*; a recovered return goes on
with the old one), and for each publishing node and room:

- nothing comes twice, and nothing out of order;
- of what its own node publishes nothing is missing, whatever the broker does;
- of *durable* publications of any node nothing is missing, unless their publisher was told that the broker has not
  taken them (``BrokerUnavailableError``);
- every message that a client sends is answered in the end, and no node handles it twice.

Afterwards everybody hears everybody. What differs is in ``PROMISES``. *Plain* publications of other nodes are at most
once: what is on its way while the connection of either node to the broker is broken may be missing, and nothing else.

Sources: the docstring of gateway/brokers/base.py, docs/recovery.md, docs/delivery-from-clients.md, docs/workers.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Promise:
    """touches: clients whose connection ends. begins_anew: they all return without being recovered.
    cuts: nodes whose connection to the broker breaks, and with it goes what is plain and on its way.
    """

    what: str
    touches: str
    begins_anew: bool = False
    cuts: str = ""


@dataclass(frozen=True)
class Done:
    """What was done: in words, to which clients (their numbers), and which nodes it cut from the broker (their ids)."""

    detail: str
    touched: Collection[int] = ()
    cut: Collection[str] = ()


PROMISES: Final[Mapping[str, Promise]] = {
    # Recovery is of the process: nobody knows a killed worker's clients. Its messages that were taken have been sent.
    "kill_worker": Promise("kill -9 a worker", "those of the worker", begins_anew=True),
    "kill_host": Promise("kill -9 a host: its supervisor and workers", "those of the host", begins_anew=True),
    # With its streams on disk (appendfsync always); without, a restart forgets what was durable.
    "restart_redis": Promise("restart Redis", "nobody", cuts="all nodes"),
    # A pause longer than the canary waits is an outage like another.
    "pause_redis": Promise("pause Redis (SIGSTOP)", "nobody", cuts="all nodes"),
    # Up to twice the lease: others may take the host for gone, and have it back.
    "partition": Promise("cut a host off from Redis and the other host", "nobody", cuts="the host's nodes"),
    # Recovered where chance leads them back to their worker, anew elsewhere.
    "renew_clients": Promise("clients leave their connections and come back", "these"),
}


@dataclass
class Seen:
    """Of one scenario, all clients together."""

    name: str
    detail: str
    seconds: float = 0.0
    heard: int = 0
    answered: int = 0
    refused: int = 0
    lost_connections: int = 0
    recovered: int = 0
    anew: int = 0
    handled_again: int = 0
    heard_anew: int = 0
    missed_plain: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        promise = PROMISES[self.name]
        missing = f"plain publications from and to {promise.cuts}" if promise.cuts else "nothing"
        anew = " and begin anew" if promise.begins_anew else ""
        promised = f"connections of {promise.touches} end{anew}; {missing} may be missing"
        seen = (
            f"{self.heard} heard, {self.answered} answered ({self.refused} not taken by the broker), "
            f"{self.lost_connections} connections lost, {self.recovered} recovered, {self.anew} anew, "
            f"{self.missed_plain} plain missing, {self.handled_again} handled by another node again, "
            f"{self.heard_anew} heard again after beginning anew"
        )
        lines = [
            f"{promise.what}: {self.detail} ({self.seconds:.1f} s)",
            f"  promised: {promised}",
            f"  seen:     {seen}",
        ]
        return "\n".join(lines + [f"  BROKEN:   {problem}" for problem in self.problems])


def judge(seen: Seen, told: Mapping[str, Any], done: Done) -> None:
    """Count ``told``, what the clients say, into ``seen``.

    Clients that came by polling may lose more: what stands between them and their worker may be another host.
    """
    promise, touched = PROMISES[seen.name], done.touched
    problems = seen.problems
    problems += told["violations"]
    if told.get("problem"):
        problems.append(told["problem"])
    seen.heard, seen.answered, seen.refused = told["heard"], told["answered"], told["refused"]
    seen.handled_again, seen.heard_anew = told["again"], told["heardAnew"]
    for gap in told["gaps"]:
        count = gap["to"] - gap["from"] + 1
        is_own = gap["node"] == gap["at"]
        whose = "its own node" if is_own else "another node"
        if gap["room"] == "plain" and not is_own and (gap["node"] in done.cut or gap["at"] in done.cut):
            seen.missed_plain += count
        else:
            problems.append(f"client {gap['client']} misses {count} {gap['room']} of {whose}: {gap}")
    has_moved = {client["number"] for client in told["clients"] if not client["isPlain"]}
    losers = [loss["client"] for loss in told["losses"]]
    seen.lost_connections = len(losers)
    for loss in told["losses"]:
        if loss["client"] not in touched and loss["client"] not in has_moved:
            problems.append(f"client {loss['client']} lost its connection, and nothing happened to it: {loss['why']}")
    for back in told["returns"]:
        seen.recovered += back["isRecovered"]
        seen.anew += not back["isRecovered"] and not back["isFirst"]
        if (
            promise.begins_anew
            and back["isRecovered"]
            and back["client"] in touched
            and back["client"] not in has_moved
        ):
            problems.append(f"client {back['client']} was recovered by nobody who knows it")
    if promise.touches != "nobody" and not set(touched) <= set(losers):
        problems.append(f"clients {sorted(set(touched) - set(losers))} have not noticed anything")
