"""tidegate as one of several nodes or workers: ``tidegate serve benchmarks.peers.tidegate_node:server``.

``BENCHMARK_BROKER`` is the URL of the broker, absent for none (workers then meet in their directory);
``BENCHMARK_DURABLE`` makes the broadcasts durable.
"""

import os
from typing import Any

import gateway

server = gateway.Server(broker=os.environ.get("BENCHMARK_BROKER"), handshakes_per_second=0)
durable = "BENCHMARK_DURABLE" in os.environ


@server.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    await server.enter_room(sid, "all")


@server.event
async def echo(sid: str, data: Any) -> Any:
    return data


@server.event
async def broadcast(sid: str, data: Any) -> None:
    await server.emit("message", data, room="all", durable=durable)
