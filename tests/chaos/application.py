"""A server that numbers what it publishes: every publication to a room says whose, and which of that node's it is."""

from __future__ import annotations

import os
from collections import Counter

from aiohttp import web

import gateway
from gateway.brokers.base import BrokerLimits, BrokerUnavailableError

#: Rooms by what is asked of the broker for them.
DURABLE = {"plain": False, "durable": True}
LIMITS = BrokerLimits(lease_s=3.0, publish_timeout_s=30.0)

server = gateway.Server(
    handshakes_per_second=0, recovery_s=60, broker=os.environ["TIDEGATE_BROKER"], broker_limits=LIMITS
)
app = web.Application()
server.attach(app)
published: Counter[str] = Counter()


@server.event
async def enter(sid: str) -> tuple[str, bool]:
    """This node's id, and whether what others publish comes here from now on."""
    assert server.cluster is not None
    for room in DURABLE:
        await server.enter_room(sid, room)
    return server.cluster.node_id, await server.cluster.synced(60)


@server.event
async def say(sid: str, room: str, client: int, n: int) -> tuple[str, int, bool]:
    """This node's id, the number of the publication, and whether the broker has taken it for other nodes."""
    assert server.cluster is not None
    node_id = server.cluster.node_id
    published[room] += 1
    number = published[room]
    try:
        await server.emit("said", (room, node_id, number, client, n), room=room, durable=DURABLE[room])
    except BrokerUnavailableError:
        return node_id, number, False
    return node_id, number, True
