"""Emitters of other libraries, on their own channels."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import msgpack
import pytest
import redis
import socketio

import gateway
from gateway.brokers.base import BrokerConfigError
from gateway.envelope import EnvelopeError
from gateway.foreign_messages import from_python_socketio, from_redis_emitter, from_redis_emitter_request
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

from .conftest import Client, ClusterWorld, of

pytestmark = pytest.mark.usefixtures("no_logged_errors")


async def served(cluster: ClusterWorld, **emitters: str) -> tuple[list[gateway.Server], Client, Client]:
    servers = await cluster.serve(2, foreign_emitters=gateway.ForeignEmitters(**emitters))
    for server in servers:
        listener = of(server).foreign
        assert listener is not None
        await eventually(lambda listener=listener: listener.is_listening, "the listener")  # type: ignore[misc]
    return servers, await cluster.client(0, "red"), await cluster.client(1, "red")


@pytest.mark.parametrize("broker_url", ["redis"], indirect=True)
async def test_write_only_manager_of_python_socketio_is_understood(
    cluster: ClusterWorld, shared_redis: RedisServer
) -> None:
    channel = f"sio-{secrets.token_hex(4)}"
    (one, two), a, b = await served(cluster, python_socketio_channel=channel)
    manager = socketio.RedisManager(shared_redis.url, channel=channel, write_only=True)

    def work() -> None:
        manager.emit("x", {"n": 1, "b": [b"\x00\xff"]}, room="red")
        manager.emit("y", (1, "two"), room="red", skip_sid=b.sid)
        manager.emit("z", None, to=b.sid)
        manager.enter_room(a.sid, "/", "blue")
        manager.emit("w", 5, room="blue")

    await asyncio.to_thread(work)
    await a.hears(("x", {"n": 1, "b": [b"\x00\xff"]}), ("y", 1, "two"), ("w", 5))
    await b.hears(("x", {"n": 1, "b": [b"\x00\xff"]}), ("z", None))
    await asyncio.to_thread(manager.leave_room, a.sid, "/", "blue")
    await eventually(lambda: "blue" not in one.rooms(a.sid), "the room to be left")
    await asyncio.to_thread(manager.close_room, "red", "/")
    await eventually(lambda: two.rooms(b.sid) == [b.sid], "the room to be closed")
    client: redis.Redis = shared_redis.client()
    client.publish(channel, "{nothing")
    # A write-only manager's own fails: it asks the server that it has not.
    client.publish(channel, json.dumps({"method": "disconnect", "sid": b.sid, "namespace": "/"}))
    await eventually(lambda: b.is_gone, "it to go")
    assert of(one).counters.malformed == 1


@pytest.mark.parametrize("broker_url", ["redis"], indirect=True)
async def test_redis_emitter_of_node_is_understood(cluster: ClusterWorld, shared_redis: RedisServer) -> None:
    key = f"socket.io[{secrets.token_hex(4)}]"
    (one, two), a, b = await served(cluster, redis_emitter_key=key)
    heard: list[Any] = []
    two.on_server_event("note", lambda *arguments: heard.append(arguments))
    client: redis.Redis = shared_redis.client()

    def emit(data: list[Any], rooms: list[str], excepted: list[str] | None = None, **flags: bool) -> None:
        packet = {"type": 2, "data": data, "nsp": "/"}
        options = {"rooms": rooms, "except": excepted or [], "flags": flags}
        room = f"{rooms[0]}#" if len(rooms) == 1 else ""
        client.publish(f"{key}#/#{room}", msgpack.packb(["emitter", packet, options]))

    def ask(**fields: Any) -> None:
        client.publish(f"{key}-request#/#", json.dumps(fields))

    emit(["x", {"b": b"\x01"}, None], ["red"])
    emit(["y"], ["red", "blue"], [b.sid], volatile=True)
    emit(["all", 1], [])
    await a.hears(("x", {"b": b"\x01"}, None), ("y",), ("all", 1))
    await b.hears(("x", {"b": b"\x01"}, None), ("all", 1))
    ask(type=2, opts={"rooms": ["red"], "except": []}, rooms=["green", "white"])
    await eventually(lambda: {"green", "white"} <= set(one.rooms(a.sid)) & set(two.rooms(b.sid)), "the rooms")
    ask(type=3, opts={"rooms": [a.sid], "except": []}, rooms=["green"])
    await eventually(lambda: "green" not in one.rooms(a.sid), "the room to be left")
    ask(uid="emitter", type=6, data=["note", 1])
    await eventually(lambda: heard == [(1,)], "the server-side event")
    ask(type=4, opts={"rooms": ["white"], "except": [a.sid]}, close=False)
    await eventually(lambda: b.is_gone, "it to go")
    assert not a.is_gone


@pytest.mark.parametrize("broker", ["memory:", "unix:/tmp/x", "redis+sentinel://127.0.0.1/main"])
def test_emitters_need_one_redis(broker: str) -> None:
    with pytest.raises(BrokerConfigError, match="one Redis"):
        gateway.Server(broker=broker, foreign_emitters=gateway.ForeignEmitters("socketio"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"method": "emit"}',
        b'{"method": "emit", "event": "x", "data": [], "namespace": "x"}',
        b'{"method": "emit", "event": "x", "data": [[{"_placeholder": true, "num": 1}]], "binary": true}',
        b'{"method": "emit", "event": "x", "data": [["a"], "%"], "binary": true}',
        b'{"method": "enter_room", "sid": "x"}',
        b'{"method": "other"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        from_python_socketio(data)
    with pytest.raises(EnvelopeError):
        from_redis_emitter(data)
    with pytest.raises(EnvelopeError):
        from_redis_emitter_request("/", data)
