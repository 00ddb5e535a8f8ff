"""What one worker says reaches the clients of the others, with nothing installed between them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
import socketio

from tests.support.waiting import eventually
from tests.workers.conftest import Gateway

CLIENTS = 12
MESSAGES = 200


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_broadcast_reaches_the_clients_of_all_workers_once_and_in_order(
    gateway: Callable[..., Gateway], transport: str
) -> None:
    server = gateway("--workers", "3")
    clients = [socketio.AsyncClient(reconnection=False) for _ in range(CLIENTS)]
    heard: list[list[int]] = [[] for _ in clients]
    try:
        for client, numbers in zip(clients, heard, strict=True):
            client.on("message", numbers.append)
            await client.connect(server.url, transports=[transport])
        owners = Counter(client.get_sid()[:7] for client in clients)
        assert set(owners) <= set(server.workers())
        assert len(owners) > 1, "the kernel gave all connections to one worker"
        # What a worker has of the others' interest arrives with the first messages at the latest.
        await eventually(lambda: clients[0].connected, "a connection")
        for n in range(-1, -1000, -1):
            await clients[0].emit("broadcast", n)
            await asyncio.sleep(0.01)
            if all(numbers and numbers[-1] < 0 for numbers in heard):
                break
        for n in range(MESSAGES):
            await clients[0].emit("broadcast", n)
        await eventually(lambda: all(numbers[-1:] == [MESSAGES - 1] for numbers in heard), "all messages", 30)
        for numbers in heard:
            assert [n for n in numbers if n >= 0] == [*range(MESSAGES)]
    finally:
        for client in clients:
            await client.disconnect()
    assert server.end() == 0


async def test_events_for_a_client_of_another_worker_find_it(gateway: Callable[..., Gateway]) -> None:
    server = gateway("--workers", "3")
    clients = [socketio.AsyncClient(reconnection=False) for _ in range(CLIENTS)]
    asked: list[list[str]] = [[] for _ in clients]
    try:
        for client, questions in zip(clients, asked, strict=True):
            client.on("message", questions.append)
            await client.connect(server.url, transports=["websocket"])
        first = clients[0].get_sid()
        others = [n for n, client in enumerate(clients) if client.get_sid()[:7] != first[:7]]
        assert others
        for n in others:
            await clients[n].emit("room_emit", (first, f"from {n}"))
        await eventually(lambda: len(asked[0]) == len(others), "the messages of the others", 20)
        assert sorted(asked[0]) == sorted(f"from {n}" for n in others)
        assert not any(asked[1:])
    finally:
        for client in clients:
            await client.disconnect()
