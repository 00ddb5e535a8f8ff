"""A server that numbers what it publishes: every publication to a room says whose, and which of that node's it is."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

from aiohttp import web

import gateway
from gateway.brokers.base import BrokerLimits, BrokerUnavailableError, Gap

#: Rooms by what is asked of the broker for them.
DURABLE = {"plain": False, "durable": True}
LIMITS = BrokerLimits(lease_s=3.0, publish_timeout_s=30.0)

server = gateway.Server(
    handshakes_per_second=0, recovery_s=60, broker=os.environ["TIDEGATE_BROKER"], broker_limits=LIMITS
)
app = web.Application()
server.attach(app)
published: Counter[str] = Counter()
gaps: list[dict[str, Any]] = []


def take_gap(gap: Gap) -> None:
    gaps.append({"caughtUp": gap.caught_up, "isComplete": gap.is_complete, "seconds": gap.seconds})


assert server.cluster is not None
server.cluster.on_gap = take_gap


@server.event
async def enter(sid: str) -> tuple[str, bool]:
    """This node's id, and whether what others publish comes here from now on."""
    assert server.cluster is not None
    for room in DURABLE:
        await server.enter_room(sid, room)
    return server.cluster.node_id, await server.cluster.synced(60)


@server.event
async def say(sid: str, room: str, client: int, n: int) -> tuple[str, int, bool, float, float]:
    """This node's id, the number of the publication, whether the broker has taken it for other nodes, and between which
    Unix times."""
    assert server.cluster is not None
    node_id = server.cluster.node_id
    published[room] += 1
    number = published[room]
    began = time.time()
    is_taken = True
    try:
        await server.emit("said", (room, node_id, number, client, n), room=room, durable=DURABLE[room])
    except BrokerUnavailableError:
        is_taken = False
    return node_id, number, is_taken, began, time.time()


@server.event
async def told(sid: str) -> tuple[str, list[dict[str, Any]]]:
    """This node's id, and what it was told of since it was asked last."""
    assert server.cluster is not None
    found, gaps[:] = list(gaps), []
    return server.cluster.node_id, found
