"""What happens to the cluster, chosen by the seed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.support.two_hosts import TwoHosts

from .promises import PROMISES, Done

#: Of clients, as they told last: number and node.
Clients = Sequence[Mapping[str, Any]]


class Plan(NamedTuple):
    """``chance``: by which it decides everything."""

    name: str
    chance: random.Random


def plans(seed: int) -> Iterator[Plan]:
    """All that can happen, in an order of the seed's, then in another."""
    chance = random.Random(seed)
    while True:
        names = list(PROMISES)
        chance.shuffle(names)
        for name in names:
            yield Plan(name, random.Random(chance.getrandbits(64)))


def owned(clients: Clients, nodes: Sequence[str]) -> list[int]:
    return [client["number"] for client in clients if client["node"] in nodes]


class Scenarios:
    """``renew``: has these clients leave their connections. Each returns what it did."""

    def __init__(self, cluster: TwoHosts, renew: Callable[[list[int]], None]) -> None:
        self._cluster = cluster
        self._renew = renew

    def run(self, plan: Plan, clients: Clients) -> Done:
        done: Done = getattr(self, plan.name)(plan.chance, clients)
        return done

    def _nodes(self) -> list[str]:
        return [worker for host in self._cluster.hosts for worker in host.workers()]

    def kill_worker(self, chance: random.Random, clients: Clients) -> Done:
        host = chance.choice(self._cluster.hosts)
        place = chance.randrange(2)
        worker_id, pid = list(host.workers().items())[place]
        os.kill(pid, signal.SIGKILL)
        host.await_ready(without=worker_id)
        return Done(f"worker {place} of host {host.place}", owned(clients, [worker_id]))

    def kill_host(self, chance: random.Random, clients: Clients) -> Done:
        host = chance.choice(self._cluster.hosts)
        away_s = chance.uniform(0.0, 5.0)
        nodes = list(host.workers())
        host.kill()
        time.sleep(away_s)
        host.start()
        host.await_ready()
        return Done(f"host {host.place} for {away_s:.1f} s", owned(clients, nodes))

    def restart_redis(self, chance: random.Random, clients: Clients) -> Done:
        away_s = chance.uniform(0.0, 5.0)
        self._cluster.redis.stop()
        time.sleep(away_s)
        self._cluster.redis.start()
        return Done(f"away for {away_s:.1f} s", cut=self._nodes())

    def pause_redis(self, chance: random.Random, clients: Clients) -> Done:
        away_s = chance.uniform(0.5, 6.0)
        self._cluster.redis.pause()
        time.sleep(away_s)
        self._cluster.redis.resume()
        return Done(f"for {away_s:.1f} s", cut=self._nodes())

    def partition(self, chance: random.Random, clients: Clients) -> Done:
        host = chance.choice(self._cluster.hosts)
        away_s = chance.uniform(1.0, 6.0)
        self._cluster.network.cut(host.place)
        time.sleep(away_s)
        self._cluster.network.mend(host.place)
        return Done(f"host {host.place} for {away_s:.1f} s", cut=list(host.workers()))

    def renew_clients(self, chance: random.Random, clients: Clients) -> Done:
        chosen = chance.sample([client["number"] for client in clients], len(clients) // 2)
        self._renew(chosen)
        return Done(f"{len(chosen)} of {len(clients)}", chosen)
