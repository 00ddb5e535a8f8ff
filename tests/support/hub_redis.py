"""Redis servers and Sentinels in the hub of a private network. The tests reach them by Unix-domain sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import redis

from .netns import BACK, inside
from .redis_server import RedisServer, SentinelServer, Watched
from .waiting import timeout_s

REDIS_PORT = 6379
SENTINEL_PORT = 26379
SENTINELS = 3


class RedisSetup(Protocol):
    """``url``: for brokers of the hosts."""

    @property
    def url(self) -> str: ...

    def start(self) -> object: ...

    def kill(self) -> None: ...


class _InHub(RedisServer):
    host = f"{BACK}.1"

    def __init__(self, directory: Path, hub: str, *arguments: Any, **options: Any) -> None:
        super().__init__(directory, *arguments, **options)
        self._hub = hub
        self.options["protected_mode"] = "no"
        self.options["unixsocket"] = self.directory / "redis.sock"

    def _command(self) -> list[str]:
        return [*inside(self._hub), *super()._command()]

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.options["unixsocket"]), socket_timeout=timeout_s(10), protocol=2, **options
        )


class HubRedis(_InHub):
    def __init__(self, directory: Path, hub: str, port: int = REDIS_PORT, **options: Any) -> None:
        super().__init__(directory, hub, port, **options)


class HubSentinel(_InHub, SentinelServer):
    pass


class HubWatched(Watched):
    """``down_after_ms``: so long a master may stand still before another takes over."""

    def __init__(self, directory: Path, hub: str, *, down_after_ms: int, **options: Any) -> None:
        settings = {"repl_diskless_sync_delay": 0} | options
        master = HubRedis(directory, hub, REDIS_PORT, **settings)
        replica = HubRedis(directory, hub, REDIS_PORT + 1, replicaof=f"{master.host} {master.port}", **settings)
        sentinels = [
            HubSentinel(
                directory,
                hub,
                master,
                SENTINEL_PORT + number,
                quorum=SENTINELS // 2 + 1,
                down_after_ms=down_after_ms,
            )
            for number in range(SENTINELS)
        ]
        super().__init__((master, replica), sentinels)
