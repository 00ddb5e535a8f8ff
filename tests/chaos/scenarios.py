"""What happens to the cluster, chosen by the seed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tests.support.hub_redis import HubRedis, HubWatched
from tests.support.redis_server import RedisServer
from tests.support.two_hosts import TwoHosts
from tests.support.waiting import eventually_sync, timeout_s

from .promises import Done

#: Of clients, as they told last: number and node.
Told = Sequence[Mapping[str, Any]]


class Commands(Protocol):
    def renew(self, numbers: list[int]) -> None:
        """Have these clients leave their connections."""

    def replace(self, numbers: list[int]) -> str:
        """New clients for these, which hear at least their own node; empty, or what went wrong."""


class Plan(NamedTuple):
    """``chance``: by which it decides everything."""

    name: str
    chance: random.Random


def plans(seed: int, all_names: Sequence[str]) -> Iterator[Plan]:
    """All that can happen, in an order of the seed's, then in another."""
    chance = random.Random(seed)
    while True:
        names = list(all_names)
        chance.shuffle(names)
        for name in names:
            yield Plan(name, random.Random(chance.getrandbits(64)))


def owned(clients: Told, nodes: Sequence[str]) -> list[int]:
    return [client["number"] for client in clients if client["node"] in nodes]


class Scenarios:
    """Whatever Redis is like. Each returns what it did."""

    def __init__(self, cluster: TwoHosts, commands: Commands) -> None:
        self._cluster = cluster
        self._commands = commands

    def run(self, plan: Plan, clients: Told) -> Done:
        done: Done = getattr(self, plan.name)(plan.chance, clients)
        return done

    def _nodes(self) -> list[str]:
        return [worker for host in self._cluster.hosts for worker in host.workers()]

    def kill_worker(self, chance: random.Random, clients: Told) -> Done:
        host = chance.choice(self._cluster.hosts)
        place = chance.randrange(2)
        worker_id, pid = list(host.workers().items())[place]
        os.kill(pid, signal.SIGKILL)
        host.await_ready(without=worker_id)
        return Done(f"worker {place} of host {host.place}", owned(clients, [worker_id]), gone=[worker_id])

    def kill_host(self, chance: random.Random, clients: Told) -> Done:
        host = chance.choice(self._cluster.hosts)
        away_s = chance.uniform(0.0, 5.0)
        nodes = list(host.workers())
        host.kill()
        time.sleep(away_s)
        host.start()
        host.await_ready()
        return Done(f"host {host.place} for {away_s:.1f} s", owned(clients, nodes), gone=nodes)

    def partition(self, chance: random.Random, clients: Told) -> Done:
        host = chance.choice(self._cluster.hosts)
        away_s = chance.uniform(1.0, 6.0)
        self._cluster.network.cut(host.place)
        time.sleep(away_s)
        self._cluster.network.mend(host.place)
        return Done(f"host {host.place} for {away_s:.1f} s", cut=list(host.workers()))

    def connect_cut_off(self, chance: random.Random, clients: Told) -> Done:
        host = chance.choice(self._cluster.hosts)
        before_s, after_s = chance.uniform(0.0, 3.0), chance.uniform(0.0, 3.0)
        chosen = chance.sample([client["number"] for client in clients], len(clients) // 2)
        self._cluster.network.cut(host.place)
        time.sleep(before_s)
        problem = self._commands.replace(chosen)
        time.sleep(after_s)
        self._cluster.network.mend(host.place)
        detail = f"{len(chosen)} of {len(clients)}, {before_s:.1f} s after host {host.place} was"
        return Done(detail, cut=list(host.workers()), problem=problem)

    def renew_clients(self, chance: random.Random, clients: Told) -> Done:
        chosen = chance.sample([client["number"] for client in clients], len(clients) // 2)
        self._commands.renew(chosen)
        return Done(f"{len(chosen)} of {len(clients)}", chosen)


class OneRedis(Scenarios):
    """With its streams on disk, or, for those that forget, with nothing there."""

    def __init__(self, cluster: TwoHosts, commands: Commands) -> None:
        super().__init__(cluster, commands)
        assert isinstance(cluster.redis, HubRedis)
        self._redis = cluster.redis

    def _restart(self, chance: random.Random) -> tuple[str, float]:
        """In words, and when it had ended."""
        away_s = chance.uniform(0.0, 5.0)
        is_killed = chance.random() < 0.5
        if is_killed:
            self._redis.kill()
        else:
            self._redis.stop()
        ended = time.time()
        time.sleep(away_s)
        self._redis.start()
        return f"{'killed' if is_killed else 'stopped'}, away for {away_s:.1f} s", ended

    def restart_redis(self, chance: random.Random, clients: Told) -> Done:
        detail, _ = self._restart(chance)
        return Done(detail, cut=self._nodes())

    def pause_redis(self, chance: random.Random, clients: Told) -> Done:
        away_s = chance.uniform(0.5, 6.0)
        self._redis.pause()
        time.sleep(away_s)
        self._redis.resume()
        return Done(f"for {away_s:.1f} s", cut=self._nodes())

    def forget(self, chance: random.Random, clients: Told) -> Done:
        began = time.time()
        detail, ended = self._restart(chance)
        return Done(detail, cut=self._nodes(), window=(began, ended))

    def forget_cut_off(self, chance: random.Random, clients: Told) -> Done:
        host = chance.choice(self._cluster.hosts)
        before_s, after_s = chance.uniform(0.0, 3.0), chance.uniform(0.0, 3.0)
        began = time.time()
        self._cluster.network.cut(host.place)
        time.sleep(before_s)
        detail, ended = self._restart(chance)
        time.sleep(after_s)
        self._cluster.network.mend(host.place)
        detail += f", {before_s:.1f} s after host {host.place} was cut off"
        return Done(detail, cut=self._nodes(), window=(began, ended))


class WatchedRedis(Scenarios):
    """A master, its replica, and three Sentinels."""

    def __init__(self, cluster: TwoHosts, commands: Commands) -> None:
        super().__init__(cluster, commands)
        assert isinstance(cluster.redis, HubWatched)
        self._redis = cluster.redis

    def _all_replicated(self) -> float:
        """Unix time: what the master had taken by then lies in its replica too."""
        self._redis.await_calm()
        began = time.time()
        client = self._redis.master.client(single_connection_client=True)
        client.set("chaos", str(began))
        assert client.wait(1, int(timeout_s(10) * 1000)) == 1, "the replica has not followed"
        client.close()
        return began

    def _ask_for_another(self) -> tuple[str, float]:
        """In words, and when the old master was told that it is none."""
        old = self._redis.master
        self._redis.fail_over()
        self._await_replica(old)
        return "asked for", time.time()

    def _kill_until_another(self) -> tuple[str, float]:
        """In words, and when the old master had ended."""
        old = self._redis.master
        old.kill()
        ended = time.time()
        self._redis.await_master(self._redis.other(old))
        old.start()
        return "by a killed master", ended

    def _await_replica(self, server: RedisServer) -> None:
        eventually_sync(lambda: server.client().info("replication")["role"] == "slave", "a master made a replica", 60)

    def fail_over(self, chance: random.Random, clients: Told) -> Done:
        began = self._all_replicated()
        detail, ended = self._ask_for_another()
        return Done(detail, cut=self._nodes(), window=(began, ended))

    def kill_master(self, chance: random.Random, clients: Told) -> Done:
        began = self._all_replicated()
        time.sleep(chance.uniform(0.0, 1.0))
        _, ended = self._kill_until_another()
        return Done(f"{ended - began:.1f} s after all was replicated", cut=self._nodes(), window=(began, ended))

    def restart_master(self, chance: random.Random, clients: Told) -> Done:
        away_s = chance.uniform(0.0, 5.0)
        old = self._redis.master
        return self._master_away(f"away for {away_s:.1f} s", old, old.kill, away_s, old.start)

    def pause_master(self, chance: random.Random, clients: Told) -> Done:
        away_s = chance.uniform(0.5, 8.0)
        old = self._redis.master
        return self._master_away(f"for {away_s:.1f} s", old, old.pause, away_s, old.resume)

    def _master_away(
        self, detail: str, old: RedisServer, leave: Callable[[], None], away_s: float, come_back: Callable[[], None]
    ) -> Done:
        """It comes back to whatever the Sentinels have made of it."""
        began = self._all_replicated()
        leave()
        time.sleep(away_s)
        come_back()
        self._redis.await_calm()
        what = "is the master" if self._redis.master is old else "is the replica"
        return Done(f"{detail}; it {what}", cut=self._nodes(), window=(began, time.time()))

    def fail_over_cut_off(self, chance: random.Random, clients: Told) -> Done:
        host = chance.choice(self._cluster.hosts)
        before_s, after_s = chance.uniform(0.0, 3.0), chance.uniform(0.0, 3.0)
        is_killed = chance.random() < 0.5
        began = self._all_replicated()
        self._cluster.network.cut(host.place)
        time.sleep(before_s)
        detail, ended = self._kill_until_another() if is_killed else self._ask_for_another()
        time.sleep(after_s)
        self._cluster.network.mend(host.place)
        detail += f", {before_s:.1f} s after host {host.place} was cut off"
        return Done(detail, cut=self._nodes(), window=(began, ended))

    def pause_sentinel(self, chance: random.Random, clients: Told) -> Done:
        place = chance.randrange(len(self._redis.sentinels))
        away_s = chance.uniform(1.0, 6.0)
        self._redis.sentinels[place].pause()
        time.sleep(away_s)
        self._redis.sentinels[place].resume()
        return Done(f"Sentinel {place} for {away_s:.1f} s")
