"""A run: two hosts, clients that never stop publishing, and one thing after another that happens to them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.two_hosts import URL, TwoHosts, two_hosts
from tests.support.waiting import TIMEOUT_FACTOR

from .promises import Done, Seen, judge
from .scenarios import Scenarios, plans
from .worlds import WORLDS

CLIENTS = 24
PERIOD_MS = 200
FEWEST_OF_A_WORKER = 2
MOST_SPREADS = 20
APPLICATION = "tests.chaos.application:app"
#: Short, so that outages are many; a pause is an outage from 1.5 s on.
BROKER = "settle_s=1&canary_interval_s=0.5&canary_timeout_s=1.5&max_backoff_s=0.5&connect_timeout_s=1"
#: What hosts may not log but of what was done to them.
ERRORS = ("Traceback", " ERROR ")
EXPECTED = "ended with SIGKILL"


class Clients:
    """``node/chaos.mjs`` while it runs."""

    def __init__(self, cluster: TwoHosts) -> None:
        settings = {"url": URL, "count": CLIENTS, "periodMs": PERIOD_MS}
        environ = {**os.environ, "TEST_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR)}
        self.process = cluster.node("chaos.mjs", json.dumps(settings), env=environ)

    def ask(self, **command: Any) -> dict[str, Any]:
        """What it answers. Raises: AssertionError where it has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the clients ended with {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def renew(self, numbers: list[int]) -> None:
        self.ask(do="renew", clients=numbers)

    def replace(self, numbers: list[int]) -> str:
        return str(self.ask(do="replace", clients=numbers).get("problem") or "")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@dataclass
class Report:
    world: str
    seed: int
    seen: list[Seen] = field(default_factory=list)
    #: Beyond those of single scenarios.
    problems: list[str] = field(default_factory=list)

    def all_problems(self) -> list[str]:
        return [*(f"{seen.name}: {problem}" for seen in self.seen for problem in seen.problems), *self.problems]

    def __str__(self) -> str:
        count = len(self.all_problems())
        verdict = f"{count} promises broken" if count else "every promise was kept"
        heard = sum(seen.heard for seen in self.seen)
        end = f"{self.world}, seed {self.seed}: {len(self.seen)} scenarios, {heard} messages heard by {CLIENTS} clients"
        return "\n".join([f"{end}; {verdict}", *(f"BROKEN: {problem}" for problem in self.problems)])


def chaos(folder: Path, world: str, seconds: float, seed: int, tell: Callable[[object], None] = print) -> Report:
    """``seconds``: no scenario begins later; each is told as it ends. Raises: NetworkError."""
    report = Report(world, seed)
    setting = WORLDS[world]
    with two_hosts(folder, APPLICATION, BROKER, setting.make_redis) as cluster:
        clients = Clients(cluster)
        try:
            _run(cluster, clients, setting.scenarios(cluster, clients), setting.names, report, seconds, tell)
        finally:
            clients.kill()
        for host in cluster.hosts:
            lines = host.log.splitlines()
            report.problems += [
                f"host {host.place} logged: {line}"
                for line in lines
                if any(error in line for error in ERRORS) and EXPECTED not in line
            ][:10]
    tell(report)
    return report


def _run(
    cluster: TwoHosts,
    clients: Clients,
    scenarios: Scenarios,
    names: Sequence[str],
    report: Report,
    seconds: float,
    tell: Callable[[object], None],
) -> None:
    told = clients.ask(do="probe")
    if told.get("problem") or told["violations"] or told["gaps"]:
        report.problems.append(f"before anything happened: {told}")
        return
    ends = time.monotonic() + seconds
    for plan in plans(report.seed, names):
        if time.monotonic() > ends:
            break
        told = _spread(cluster, clients, report, told)
        began = time.monotonic()
        done = scenarios.run(plan, told["clients"])
        told = clients.ask(do="probe", gone=list(done.gone))
        seen = Seen(plan.name, done.detail, time.monotonic() - began)
        judge(seen, told, done)
        report.seen.append(seen)
        tell(seen)
        if told.get("problem"):
            return  # what follows would be told of wrongly
    told = clients.ask(do="end")
    last = Seen(report.seen[-1].name, "afterwards")
    judge(last, told, Done(last.detail))
    report.problems += last.problems


def _spread(cluster: TwoHosts, clients: Clients, report: Report, told: dict[str, Any]) -> dict[str, Any]:
    """Have the clients come back until each worker has some; what they tell then. They stay where they are otherwise,
    and what happens to a host that has none shows nothing.
    """
    nodes = {worker for host in cluster.hosts for worker in host.workers()}
    for _ in range(MOST_SPREADS):
        owners = Counter(client["node"] for client in told["clients"])
        if all(owners[node] >= FEWEST_OF_A_WORKER for node in nodes):
            return told
        everybody = list(range(CLIENTS))
        clients.renew(everybody)
        told = clients.ask(do="probe")
        done = Done("all, to spread", everybody)
        seen = Seen("renew_clients", done.detail)
        judge(seen, told, done)
        report.problems += seen.problems
    report.problems.append(f"clients do not spread: {owners}")
    return told
