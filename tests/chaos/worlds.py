"""What Redis is like, and what can happen where it is so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.support.hub_redis import HubRedis, HubWatched
from tests.support.two_hosts import MakeRedis, TwoHosts

from .scenarios import Commands, OneRedis, Scenarios, WatchedRedis


@dataclass(frozen=True)
class World:
    what: str
    make_redis: MakeRedis
    scenarios: Callable[[TwoHosts, Commands], Scenarios]
    names: tuple[str, ...]


#: Of hosts and clients.
_EVERYWHERE: Final = ("kill_worker", "kill_host", "partition", "connect_cut_off", "renew_clients")

WORLDS: Final[Mapping[str, World]] = {
    "disk": World(
        "one Redis, its streams on disk",
        partial(HubRedis, appendonly="yes", appendfsync="always"),
        OneRedis,
        (*_EVERYWHERE, "restart_redis", "pause_redis"),
    ),
    "memory": World(
        "one Redis, nothing on disk",
        HubRedis,
        OneRedis,
        ("kill_worker", "partition", "renew_clients", "forget", "forget_cut_off", "pause_redis"),
    ),
    # On disk what was replicated only: what a master takes with it is in no file of the next.
    "sentinel": World(
        "a master and its replica, on disk, and three Sentinels",
        partial(HubWatched, down_after_ms=2000, appendonly="yes"),
        WatchedRedis,
        (
            *_EVERYWHERE,
            "fail_over",
            "kill_master",
            "restart_master",
            "pause_master",
            "fail_over_cut_off",
            "pause_sentinel",
        ),
    ),
}
