"""What is promised while each thing happens, and whether it was kept, by what clients have counted.

In all of them, for every client from one time that it begins anew to the next (an *epoch*; a recovered return goes on
with the old one), and for each publishing node and room:

- nothing comes twice, and nothing out of order;
- of what its own node publishes nothing is missing, whatever the broker does;
- of *durable* publications of any node nothing is missing, unless their publisher was told that the broker has not
  taken them (``BrokerUnavailableError``), or Redis itself loses what it has taken: where another master takes over, and
  where it restarts with nothing on disk. Then only those may be missing that were under way in a *window*, and a node
  where any is missing is told that it may be (``Gap.is_complete``). No node is told so when nothing can be;
- every message that a client sends is answered in the end, and no node handles it twice.

Afterwards everybody hears everybody. What differs is in ``PROMISES``. *Plain* publications of other nodes are at most
once: what is on its way while the connection of either node to the broker is broken, or in line at a node that is
killed, may be missing, and nothing else.

Sources: the docstring of gateway/brokers/base.py, docs/cluster.md, docs/recovery.md, docs/delivery-from-clients.md,
docs/workers.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Promise:
    """touches: clients whose connection ends. begins_anew: they all return without being recovered.
    cuts: nodes whose connection to the broker breaks, and with it goes what is plain and on its way.
    kills: nodes that may take with them what was plain and in line.
    loses: what Redis may lose of what it has taken; empty where that is nothing.
    """

    what: str
    touches: str
    begins_anew: bool = False
    cuts: str = ""
    kills: str = ""
    loses: str = ""


@dataclass(frozen=True)
class Done:
    """What was done: in words, to which clients (their numbers), and which nodes it cut from the broker (their ids).

    gone: nodes that were killed
    window: Unix times between which Redis may have taken what it lost
    problem: what went wrong meanwhile
    """

    detail: str
    touched: Collection[int] = ()
    cut: Collection[str] = ()
    gone: Collection[str] = ()
    window: tuple[float, float] | None = None
    problem: str = ""


#: Where another master takes over: replication is asynchronous, and a master takes what is written until it is told.
#: Nodes send again what they published lately, so what was seen is most often none.
_NOT_REPLICATED: Final = "what a master took and had not replicated when another took over"
_NOT_ON_DISK: Final = "what Redis took before it ended, and the node had not heard"


PROMISES: Final[Mapping[str, Promise]] = {
    # Recovery is of the process: nobody knows a killed worker's clients. What is durable was taken by Redis before it
    # was answered; what is plain leaves at the end of the turn, and its answer may be quicker.
    "kill_worker": Promise("kill -9 a worker", "those of the worker", begins_anew=True, kills="the worker"),
    "kill_host": Promise(
        "kill -9 a host: its supervisor and workers", "those of the host", begins_anew=True, kills="the host's nodes"
    ),
    # With its streams on disk (appendfsync always).
    "restart_redis": Promise("restart Redis", "nobody", cuts="all nodes"),
    # A pause longer than the canary waits is an outage like another.
    "pause_redis": Promise("pause Redis (SIGSTOP)", "nobody", cuts="all nodes"),
    # Up to twice the lease: others may take the host for gone, and have it back.
    "partition": Promise("cut a host off from Redis and the other host", "nobody", cuts="the host's nodes"),
    # They hear their own node at once, and the others when the host is back.
    "connect_cut_off": Promise("new clients, while a host is cut off", "nobody", cuts="the host's nodes"),
    # Recovered where chance leads them back to their worker, anew elsewhere.
    "renew_clients": Promise("clients leave their connections and come back", "these"),
    "forget": Promise("restart a Redis that keeps nothing", "nobody", cuts="all nodes", loses=_NOT_ON_DISK),
    "forget_cut_off": Promise(
        "restart a Redis that keeps nothing, while a host is cut off", "nobody", cuts="all nodes", loses=_NOT_ON_DISK
    ),
    "fail_over": Promise("SENTINEL FAILOVER", "nobody", cuts="all nodes", loses=_NOT_REPLICATED),
    "kill_master": Promise("kill -9 the master until another is", "nobody", cuts="all nodes", loses=_NOT_REPLICATED),
    # Whether it is still the master then is for the Sentinels to decide.
    "restart_master": Promise("kill -9 the master, and start it", "nobody", cuts="all nodes", loses=_NOT_REPLICATED),
    "pause_master": Promise("pause the master (SIGSTOP)", "nobody", cuts="all nodes", loses=_NOT_REPLICATED),
    "fail_over_cut_off": Promise(
        "another master, while a host is cut off", "nobody", cuts="all nodes", loses=_NOT_REPLICATED
    ),
    # Any other Sentinel will do.
    "pause_sentinel": Promise("pause a Sentinel (SIGSTOP)", "nobody"),
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
    missed_durable: int = 0
    gaps_told: int = 0
    incomplete_told: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        promise = PROMISES[self.name]
        missing = f"plain publications from and to {promise.cuts}" if promise.cuts else "nothing"
        if promise.kills:
            missing = f"the last plain publications of {promise.kills}"
        if promise.loses:
            missing += f", and of durable ones {promise.loses}: nodes where any is are told,"
        anew = " and begin anew" if promise.begins_anew else ""
        promised = f"connections of {promise.touches} end{anew}; {missing} may be missing"
        seen = (
            f"{self.heard} heard, {self.answered} answered ({self.refused} not taken by the broker), "
            f"{self.lost_connections} connections lost, {self.recovered} recovered, {self.anew} anew, "
            f"{self.missed_plain} plain and {self.missed_durable} durable missing, "
            f"{self.gaps_told} gaps told ({self.incomplete_told} incomplete), "
            f"{self.handled_again} handled by another node again, "
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
    problems += [problem for problem in (told.get("problem"), done.problem) if problem]
    seen.heard, seen.answered, seen.refused = told["heard"], told["answered"], told["refused"]
    seen.handled_again, seen.heard_anew = told["again"], told["heardAnew"]
    _judge_gaps(seen, told, done)
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


def _judge_gaps(seen: Seen, told: Mapping[str, Any], done: Done) -> None:
    """What is missing at clients, and what their nodes were told of it."""
    lossy_nodes = set()
    for gap in told["gaps"]:
        count = gap["to"] - gap["from"] + 1
        is_own = gap["node"] == gap["at"]
        whose = "its own node" if is_own else "another node"
        is_cut = gap["node"] in done.cut or gap["at"] in done.cut or gap["node"] in done.gone
        if gap["room"] == "plain" and not is_own and is_cut:
            seen.missed_plain += count
        elif gap["room"] == "durable" and not is_own and _may_be_lost(gap, done):
            seen.missed_durable += count
            lossy_nodes.add(gap["at"])
        else:
            problem = f"client {gap['client']} misses {count} {gap['room']} of {whose}: {gap}"
            seen.problems.append(problem if done.window is None else f"{problem}, window {done.window}")
    is_told = set()
    for node, gaps in told["gapsTold"].items():
        seen.gaps_told += len(gaps)
        incomplete = [gap for gap in gaps if not gap["isComplete"]]
        seen.incomplete_told += len(incomplete)
        if incomplete:
            is_told.add(node)
            if not PROMISES[seen.name].loses:
                seen.problems.append(f"node {node} is told of losses that cannot be: {incomplete}")
    for node in sorted(lossy_nodes - is_told):
        seen.problems.append(f"node {node} has lost durable publications, and was not told")


def _may_be_lost(gap: Mapping[str, Any], done: Done) -> bool:
    """Whether each may have been under way in the window, by when their publishers began and ended (None: never)."""
    if done.window is None:
        return False
    opens, closes = done.window
    return all(times and times[0] <= closes and times[1] >= opens for times in gap["published"])
