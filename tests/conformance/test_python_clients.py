"""python-socketio's own clients, with and without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import socketio

from tests.support.servers import LISTENERS
from tests.support.waiting import eventually, eventually_sync, timeout_s

#: The transports that the client is told, by what becomes of them.
PATHS = {
    "polling": ["polling"],
    "websocket": ["websocket"],
    "polling>websocket": ["polling", "websocket"],
}


@pytest.fixture(params=LISTENERS)
def url(request: pytest.FixtureRequest, server_process: Callable[..., Any]) -> str:
    found: str = server_process(listener=request.param).url
    return found


def last_transport(path: str) -> str:
    return path.rpartition(">")[2]


@asynccontextmanager
async def async_client(url: str, path: str) -> AsyncIterator[socketio.AsyncClient]:
    client = socketio.AsyncClient(reconnection=False)
    await client.connect(url, transports=PATHS[path], namespaces=["/", "/news"], wait_timeout=timeout_s(10))
    try:
        yield client
    finally:
        await client.disconnect()


@contextmanager
def sync_client(url: str, path: str) -> Iterator[socketio.Client]:
    client = socketio.Client(reconnection=False)
    client.connect(url, transports=PATHS[path], namespaces=["/", "/news"], wait_timeout=timeout_s(10))
    try:
        yield client
    finally:
        client.disconnect()


BINARY = bytes(range(256))
TEXT = ("zwölf € 😀", 1, None, {"a": [{}]})


@pytest.mark.parametrize("path", PATHS)
async def test_the_async_client_talks_and_listens(url: str, path: str) -> None:
    async with async_client(url, path) as client:
        assert await client.call("who") == last_transport(path)
        assert await client.call("echo", TEXT) == TEXT
        assert await client.call("echo", "in /news", namespace="/news") == "in /news"
        assert await client.call("echo", BINARY) == BINARY
        assert await client.call("echo", {"nested": [BINARY, {"deep": b""}]}) == {"nested": [BINARY, {"deep": b""}]}
        assert (await client.call("binary"))["buffer"] == BINARY

        @client.on("question")  # type: ignore[untyped-decorator]
        async def question(*args: Any) -> Any:
            return list(args), BINARY

        assert await client.call("ask", ("what?", b"\x00")) == (["what?", b"\x00"], BINARY)


@pytest.mark.parametrize("path", PATHS)
async def test_the_async_client_gets_a_burst_whole_and_in_order(url: str, path: str) -> None:
    async with async_client(url, path) as client:
        ticks: list[int] = []
        client.on("tick", lambda tick: ticks.append(tick["n"]))
        await client.emit("burst", (200, 100))
        await eventually(lambda: len(ticks) >= 200, f"200 ticks on {path}")
        await client.call("echo", None)
        assert ticks == list(range(200))


@pytest.mark.parametrize("path", PATHS)
async def test_the_async_client_sends_a_burst_whole_and_in_order(url: str, path: str) -> None:
    async with async_client(url, path) as client:
        acks: list[int] = []
        for n in range(200):
            await client.emit("number", n, callback=acks.append)
        await eventually(lambda: len(acks) >= 200, f"200 acks on {path}")
        assert acks == list(range(200))
        assert (await client.call("report"))["received"] == list(range(200))


@pytest.mark.parametrize("path", PATHS)
def test_the_sync_client_talks_and_listens(url: str, path: str) -> None:
    with sync_client(url, path) as client:
        assert client.call("who") == last_transport(path)
        assert client.call("echo", TEXT) == TEXT
        assert client.call("echo", "in /news", namespace="/news") == "in /news"
        assert client.call("echo", BINARY) == BINARY
        assert client.call("echo", {"nested": [BINARY, {"deep": b""}]}) == {"nested": [BINARY, {"deep": b""}]}
        client.on("question", lambda *args: (list(args), BINARY))
        assert client.call("ask", ("what?", b"\x00")) == (["what?", b"\x00"], BINARY)


@pytest.mark.parametrize("path", PATHS)
def test_the_sync_client_gets_a_burst_whole(url: str, path: str) -> None:
    with sync_client(url, path) as client:
        # Handlers run in threads of their own, so the order of their calls says nothing.
        ticks: list[int] = []
        lock = threading.Lock()

        def tick(data: dict[str, Any]) -> None:
            with lock:
                ticks.append(data["n"])

        client.on("tick", tick)
        client.emit("burst", (200, 100))
        eventually_sync(lambda: len(ticks) >= 200, f"200 ticks on {path}")
        client.call("echo", None)
        assert sorted(ticks) == list(range(200))


@pytest.mark.parametrize("path", PATHS)
async def test_clients_learn_that_the_server_disconnects_them(url: str, path: str) -> None:
    client = socketio.AsyncClient(reconnection=False)
    gone = asyncio.Event()
    client.on("disconnect", lambda reason: gone.set())
    await client.connect(url, transports=PATHS[path], wait_timeout=timeout_s(10))
    await client.emit("disconnect_me")
    await asyncio.wait_for(gone.wait(), timeout_s(10))
    await client.disconnect()
