"""A soak: warm up, look, hours of everybody, look again; and what must be as it was."""

from __future__ import annotations

import asyncio
import collections
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.raw import Connection
from tests.support.servers import ServerProcess
from tests.support.waiting import timeout_s

from .bystanders import NODE_CLIENTS, PATHS, BrokenPromiseError, Bystander, NodeBystander, has_node
from .misbehaviour import ALL, Client

#: Who comes and goes at the same time.
WORKERS = 12
#: A client that is still there after this is dropped by its own side.
LONGEST_S = 10.0
#: Every deadline of the server is over by then, and every client's connection has ended.
QUIET_WITHIN_S = 60.0
#: What the allocator may keep beyond the level after the warm-up: a fraction of it, and a number of bytes.
RSS_FRACTION = 0.15
RSS_BYTES = 12 * 1024 * 1024
#: Must be as they were.
COUNTED = ("sessions", "members", "rooms", "closing", "tasks", "files", "unfreed")
#: Why sessions must have ended, or the clients have not done what they are here for.
REASONS = ("slow client", "ping timeout", "connect timeout", "parse error", "transport close", "client disconnect")
#: What ends a misbehaving client early, when the server has had enough of it.
_THROWN_OUT = (OSError, EOFError, TimeoutError, AssertionError, ValueError, IndexError)

Inside = dict[str, Any]


@dataclass
class Report:
    seed: int
    seconds: float
    before: Inside = field(default_factory=dict)
    peak: Inside = field(default_factory=dict)
    after: Inside = field(default_factory=dict)
    #: By what they did: how many went through with it, and how many the server stopped.
    clients: dict[str, collections.Counter[str]] = field(default_factory=dict)
    #: By path: messages answered, numbers pushed, and the answers' times.
    bystanders: dict[str, tuple[int, int, list[float]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def rss_limit(self) -> float:
        return float(self.before["rss"] * (1 + RSS_FRACTION) + RSS_BYTES)

    def judge(self) -> None:
        for name in COUNTED:
            if self.after[name] != self.before[name]:
                held = "".join(f"\n    {line}" for line in self.after.get("holders", ()) if name == "unfreed")
                self.problems.append(f"{name}: {self.before[name]} before, {self.after[name]} after{held}")
        if self.after["rss"] > self.rss_limit:
            self.problems.append(f"memory: {_mib(self.after['rss'])} after, at most {_mib(self.rss_limit)} expected")
        self.problems += [f"the server logged: {text}" for text in self.after["errors"]]
        for name, ends in self.clients.items():
            if not ends["through"]:
                self.problems.append(f"nobody got as far as: {name.replace('_', ' ')}")
        for reason in REASONS:
            if not self.after["closed"].get(reason):
                self.problems.append(f"no session ended by: {reason}")

    def __str__(self) -> str:
        rows = [("", "before", "peak", "after")]
        looks = (self.before, self.peak, self.after)
        rows += [(name, *(str(look.get(name, "")) for look in looks)) for name in COUNTED]
        rows.append(("memory", *(_mib(look["rss"]) for look in looks)))
        lines = [_line(row, (12, 12, 12, 12)) for row in rows]
        widths = (24, 10, 10, 10, 10, 10)
        lines += ["", _line(("bystander", "answered", "pushed", "median ms", "p99 ms", "slowest ms"), widths)]
        for path, (answered, pushed, times) in self.bystanders.items():
            found = sorted(times) or [0.0]
            figures = (found[len(found) // 2], found[len(found) * 99 // 100], found[-1])
            row = (path, str(answered), str(pushed), *(f"{figure * 1000:.1f}" for figure in figures))
            lines.append(_line(row, widths))
        lines += ["", _line(("client", "went through", "stopped"), (36, 12, 12))]
        lines += [
            _line((name.replace("_", " "), str(ends["through"]), str(ends["stopped"])), (36, 12, 12))
            for name, ends in self.clients.items()
        ]
        closed = ", ".join(f"{reason} {count}" for reason, count in sorted(self.after["closed"].items()))
        lines += ["", f"sessions ended: {closed}"]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    pairs = enumerate(zip(cells, widths, strict=True))
    return " ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in pairs)


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


class Soak:
    def __init__(self, server: ServerProcess, seconds: float, seed: int) -> None:
        self.report = Report(seed, seconds)
        self._port = server.port
        self._rng = random.Random(seed)

    async def inside(self, query: str = "") -> Inside:
        async with await Connection.open(self._port) as connection:
            await connection.request("GET", f"/inside{query}", headers={"Connection": "close"})
            found: Inside = (await connection.read_response()).json()
            return found

    async def quiet(self, baseline: Inside | None) -> Inside:
        """The server with nobody there; as ``baseline``, or as soon as no session is left."""
        ends = time.monotonic() + timeout_s(QUIET_WITHIN_S)
        while True:
            found = await self.inside("?collect")
            names = COUNTED if baseline is not None else ("sessions", "members", "rooms", "closing", "unfreed")
            if all(found[name] == (baseline[name] if baseline is not None else 0) for name in names):
                return found
            if time.monotonic() > ends:
                return await self.inside("?collect&holders")
            await asyncio.sleep(0.25)

    def _undone(self) -> list[Callable[[Client], Awaitable[None]]]:
        return [act for act in ALL if not self.report.clients[act.__name__]["through"]]

    async def _act(self, act: Callable[[Client], Awaitable[None]], rng: random.Random) -> None:
        outcomes = self.report.clients[act.__name__]
        async with Client(self._port, rng) as client:
            try:
                await asyncio.wait_for(act(client), timeout_s(LONGEST_S))
                outcomes["through"] += 1
            except _THROWN_OUT:
                outcomes["stopped"] += 1

    async def _misbehave(self, ends: float, rng: random.Random) -> None:
        """One client after the other. At first everything is done once, in turn."""
        while time.monotonic() < ends:
            await self._act(self._first.pop() if self._first else rng.choice(ALL), rng)

    def _bystanders(self) -> list[Bystander | NodeBystander]:
        return [
            *(Bystander(self._port, path) for path in PATHS),
            *(NodeBystander(self._port, client) for client in NODE_CLIENTS if has_node()),
        ]

    async def _attend(self, ends: float, bystander: Bystander | NodeBystander) -> None:
        """A bystander to the end."""
        running = asyncio.create_task(bystander.run())
        await asyncio.wait((running,), timeout=max(ends - time.monotonic(), 0.1))
        bystander.leave()
        try:
            await running
        except BrokenPromiseError as broken:
            self.report.problems.append(str(broken))
        self.report.bystanders[bystander.name] = (len(bystander.answers_s), bystander.ticks, bystander.answers_s)

    async def _watch(self) -> None:
        while True:
            found = await self.inside()
            for name in (*COUNTED, "rss"):
                if name in found:
                    self.report.peak[name] = max(self.report.peak.get(name, 0), found[name])
            await asyncio.sleep(0.25)

    async def everybody(self, seconds: float) -> None:
        self._first = list(ALL)
        self._rng.shuffle(self._first)
        self.report.clients = {act.__name__: collections.Counter() for act in ALL}
        ends = time.monotonic() + seconds
        await asyncio.gather(
            *(self._misbehave(ends, random.Random(self._rng.random())) for _ in range(WORKERS)),
            *(self._attend(ends + 0.5, bystander) for bystander in self._bystanders()),
        )
        # A busy machine may not have come to everything, or not to the end of it.
        for act in self._undone() * 2:
            if act in self._undone():
                await self._act(act, self._rng)

    async def run(self, warm_up_s: float) -> Report:
        """Raises nothing for what the server does; see ``Report.problems``."""
        if warm_up_s:
            await self.everybody(warm_up_s)
        self.report.before = await self.quiet(None)
        watching = asyncio.create_task(self._watch())
        await self.everybody(self.report.seconds)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        self.report.after = await self.quiet(self.report.before)
        self.report.judge()
        return self.report


async def soak(server: ServerProcess, seconds: float, seed: int, warm_up_s: float) -> Report:
    return await Soak(server, seconds, seed).run(warm_up_s)
