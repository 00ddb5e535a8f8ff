"""Emitting to a cluster's clients from elsewhere."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import Any

import pytest

import gateway
from gateway.brokers.base import BrokerClosedError, BrokerConfigError
from tests.support.waiting import eventually, timeout_s

from .conftest import ClusterWorld, of

pytestmark = pytest.mark.usefixtures("no_logged_errors")


async def test_emitter_reaches_clients_of_every_node(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1, "red")
    heard: list[Any] = []
    two.on_server_event("note", lambda *arguments: heard.append(arguments))
    async with gateway.AsyncEmitter(cluster.url) as emitter:
        await emitter.ready(timeout_s(10))
        await eventually(lambda: len(emitter.nodes()) == 2, "the servers")
        await emitter.emit("room", {"b": b"1"}, room="red")
        await emitter.emit("room", 2, room="red", skip_sid=b.sid)
        await emitter.emit("room", 3, room="red", conflate=True)
        await a.hears(("room", {"b": b"1"}), ("room", 2), ("room", 3))
        await b.hears(("room", {"b": b"1"}), ("room", 3))
        await emitter.emit("you", to=b.sid)
        await b.hears(("you",))
        await emitter.emit("all", (1, 2))
        await a.hears(("all", 1, 2))
        await b.hears(("all", 1, 2))
        await emitter.enter_room(a.sid, "blue")
        await emitter.enter_room("red", "green")
        await eventually(lambda: {"blue", "green"} <= set(one.rooms(a.sid)), "the rooms")
        await eventually(lambda: "green" in two.rooms(b.sid), "the room")
        await emitter.leave_room("red", "green")
        await emitter.close_room("blue")
        await eventually(lambda: set(one.rooms(a.sid)) == {a.sid, "red"}, "the rooms to be left")
        await emitter.server_side_emit("note", 7)
        await eventually(lambda: heard == [(7,)], "the server's event")
        await emitter.disconnect(b.sid)
        await eventually(lambda: b.is_gone, "one to go")
        await emitter.disconnect("red")
        await eventually(lambda: a.is_gone, "everybody in the room to go")
        assert set(of(one).nodes()) == {of(one).node_id, of(two).node_id}, "an emitter is no server"
    found = await one.call_all("ask", timeout=timeout_s(10))
    assert found.missing_nodes == ()


async def test_emitter_refuses_what_makes_no_sense(cluster: ClusterWorld) -> None:
    with pytest.raises(BrokerConfigError):
        gateway.AsyncEmitter("nothing")
    emitter = gateway.AsyncEmitter(cluster.url)
    with pytest.raises(BrokerClosedError):
        await emitter.emit("x")
    async with emitter:
        with pytest.raises(ValueError, match="client or a room"):
            await emitter.disconnect("")
        with pytest.raises(TypeError):
            await emitter.emit("x", room=7)
        with pytest.raises(TypeError):
            await emitter.emit("x", object())


@pytest.mark.parametrize("broker_url", ["unix", "redis"], indirect=True)
async def test_emitter_without_a_loop_reaches_clients(cluster: ClusterWorld) -> None:
    await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1, "red")

    def work() -> None:
        with gateway.Emitter(cluster.url) as emitter:
            emitter.emit("x", 1, room="red", when_down="wait")
            emitter.emit("x", 2, to=b.sid)
            emitter.disconnect(a.sid)

    await asyncio.to_thread(work)
    await b.hears(("x", 1), ("x", 2))
    await a.hears(("x", 1))
    await eventually(lambda: a.is_gone, "it to go")


def _emit_in_child(emitter: gateway.Emitter) -> None:
    emitter.emit("x", "child", room="red")
    emitter.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("broker_url", ["redis"], indirect=True)
async def test_emitter_goes_on_in_a_forked_process(cluster: ClusterWorld) -> None:
    await cluster.serve(1)
    a = await cluster.client(0, "red")
    emitter = gateway.Emitter(cluster.url)
    await asyncio.to_thread(emitter.emit, "x", "parent", room="red")
    await a.hears(("x", "parent"))
    child = multiprocessing.get_context("fork").Process(target=_emit_in_child, args=(emitter,))
    child.start()
    await a.hears(("x", "child"))
    await asyncio.to_thread(child.join, timeout_s(10))
    assert child.exitcode == 0
    await asyncio.to_thread(emitter.emit, "x", "parent again", room="red")
    await a.hears(("x", "parent again"))
    await asyncio.to_thread(emitter.close)
