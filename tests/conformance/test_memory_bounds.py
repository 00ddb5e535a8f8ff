"""What clients can make a server keep: it is bounded while they last, and given back when they have gone.

Each test has a server of its own, so that no memory freed by another hides what this one takes. "Given back" is
measured between the end of a first round, which warms the allocator up, and the end of a second. The figures are
printed; ``-rP`` shows them.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from tests.conformance.test_slow_clients import MemoryWatch, other
from tests.support.raw import CLOSE, SEPARATOR, TEXT, Connection, EngineClient, WebSocket, websocket_headers
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually, timeout_s

MIB = 2**20
#: What a second round of the same may leave behind: pages that the allocator has split otherwise than before, and
#: what the application under test notes about each client.
KEPT_BYTES = 4 * MIB
SOCKET_IO = "/socket.io/"


def watched(listener: str = "fast", **options: Any) -> ServerProcess:
    return ServerProcess(module="tests.support.watched", listener=listener, **options)


async def inside(server: ServerProcess, query: str = "") -> dict[str, Any]:
    """What the server holds."""
    found: dict[str, Any] = (await EngineClient(server.port).request("GET", f"/inside{query}")).json()
    return found


async def until_inside(server: ServerProcess, seconds: float = 10.0, **wanted: Any) -> dict[str, Any]:
    """What the server holds once that includes ``wanted``."""
    ends = time.monotonic() + timeout_s(seconds)
    while True:
        found = await inside(server)
        if all(found[name] == value for name, value in wanted.items()):
            return found
        assert time.monotonic() < ends, f"never {wanted}: {found}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(server: ServerProcess) -> AsyncIterator[MemoryWatch]:
    """The growth of the server from here to the end of the block."""
    watch = MemoryWatch(server.pid)
    is_over = asyncio.Event()

    async def look() -> None:
        while not is_over.is_set():
            watch.look()
            await asyncio.sleep(0.005)

    looking = asyncio.create_task(look())
    try:
        yield watch
    finally:
        is_over.set()
        await looking
        watch.look()


async def check_given_back(server: ServerProcess, name: str, one_round: Callable[[str], Awaitable[None]]) -> None:
    """Two rounds, each named, after which nobody is left: the second leaves no memory behind."""

    async def empty() -> int:
        await until_inside(server, 15, sessions=0, members=0, rooms=0, closing=0)
        await inside(server, "?collect")
        rss: int = psutil.Process(server.pid).memory_info().rss
        return rss

    fresh = await empty()
    await one_round("first")
    warm = await empty()
    async with watching(server) as watch:
        await one_round("second")
    left = await empty() - warm
    print(
        f"{name}: {(warm - fresh) / MIB:.1f} MiB to warm up, {watch.growth_bytes / MIB:.1f} more at the most in the "
        f"second round, {left / MIB:+.1f} after it"
    )
    assert left <= KEPT_BYTES


# -- sessions ----------------------------------------------------------------------------------------------

#: With aiohttp's own runner fewer, since each takes it a millisecond.
ABANDONED = {"fast": 2000, "aiohttp": 1000}
WAYS = ("polling", "xhr-streaming", "websocket")


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout_s(10))


def say(connection: socket.socket, method: str, target: str, *lines: str, body: bytes = b"") -> None:
    head = [f"{method} {target} HTTP/1.1", "Host: a", *lines, f"Content-Length: {len(body)}", "", ""]
    connection.sendall("\r\n".join(head).encode() + body)


def hear(connection: socket.socket, wanted: bytes) -> str:
    """What comes, up to the part that has ``wanted``."""
    heard = b""
    while wanted not in heard:
        data = connection.recv(65536)
        assert data, heard
        heard += data
    return heard.decode("latin-1")


def abandon(port: int, n: int) -> socket.socket | None:
    """A handshake after which nothing comes, of a kind that ``n`` chooses: its connection, or None where it is dropped.

    Half have joined the namespace. All by polling have: where one has not, its session stays for another ten seconds so
    that the client can fetch the news.
    """
    way = WAYS[n % 3]
    connection = dial(port)
    target = EngineClient(port, SOCKET_IO).target(transport=way)
    headers = websocket_headers() if way == "websocket" else {}
    say(connection, "GET", target, *[f"{name}: {value}" for name, value in headers.items()])
    heard = hear(connection, b'"maxPayload"')
    is_joining = n // 3 % 2 == 0
    if way == "polling":
        sid = heard.partition('"sid":"')[2].partition('"')[0]
        say(connection, "POST", f"{target}&sid={sid}", body=b"40")
        hear(connection, b"ok")
    elif way == "websocket" and is_joining:
        connection.sendall(WebSocket.encode(TEXT, b"40"))
        hear(connection, b"40{")
    if n // 6 % 2:
        connection.close()
        return None
    return connection


async def test_abandoned_handshakes_end_with_their_deadlines(listener: str) -> None:
    count, most = ABANDONED[listener], 0
    with watched(listener, ping_interval=1.0, ping_timeout=0.5, connect_timeout=1.0) as server:

        async def open_and_leave(name: str) -> None:
            nonlocal most
            before = (await inside(server))["opened"]
            left = [abandon(server.port, n) for n in range(count)]
            found = await inside(server)
            assert found["opened"] - before == count
            most = max(most, found["sessions"])
            await until_inside(server, sessions=0)
            for connection in left:
                if connection is not None:
                    connection.close()

        await check_given_back(server, f"{listener}: {count} abandoned handshakes", open_and_leave)
        assert most > 0, "all were gone before anybody looked"
        closed = (await inside(server))["closed"]
        print(f"  {most} open at once; ended by {closed}")
        assert {"ping timeout", "connect timeout", "transport close"} <= set(closed)
        assert sum(closed.values()) == 2 * count


# -- namespaces and rooms ----------------------------------------------------------------------------------

NAMESPACES = 3000


async def connected(server: ServerProcess) -> WebSocket:
    ws = await EngineClient(server.port, SOCKET_IO).websocket()
    await ws.opening()
    return ws


async def ask_all(ws: WebSocket, texts: list[str]) -> list[str]:
    """The answers, one for each."""
    await ws.connection.send(b"".join([WebSocket.encode(TEXT, text.encode()) for text in texts]))
    return [await ws.text() for _ in texts]


@pytest.mark.parametrize(
    ("listener", "allowed"), [("fast", None), ("aiohttp", None), ("fast", 5000)], indirect=["listener"]
)
async def test_thousands_of_namespaces_on_one_connection(listener: str, allowed: int | None) -> None:
    options = {} if allowed is None else {"max_namespaces": allowed}
    with watched(listener, namespaces="*", **options) as server:

        async def ask_for_many(name: str) -> None:
            ws = await connected(server)
            names = [f"/{name}-{n}" for n in range(NAMESPACES)]
            answers = await ask_all(ws, [f"40{namespace}," for namespace in names])
            joined = {answer[2:].partition(",")[0] for answer in answers if answer.startswith("40")}
            assert joined == set(names[: allowed or 100])
            refusals = Counter(answer.partition(",")[2] for answer in answers if not answer.startswith("40"))
            refused = NAMESPACES - len(joined)
            expected = {'{"message":"Too many namespaces: 100 are allowed"}': refused} if refused else {}
            assert refusals == expected
            asked = [f'42{namespace},7["echo",{n}]' for n, namespace in enumerate(names) if namespace in joined]
            echoed = [f"43{namespace},7[{n}]" for n, namespace in enumerate(names) if namespace in joined]
            assert sorted(await ask_all(ws, asked)) == sorted(echoed)
            assert (await inside(server))["members"] == len(joined)
            ws.abort()

        await check_given_back(server, f"{listener}: {NAMESPACES} namespaces, {allowed or 100} allowed", ask_for_many)


async def test_thousands_of_rooms_go_with_their_only_member() -> None:
    count = 4000
    with watched() as server:

        async def join_and_leave(name: str) -> None:
            ws = await connected(server)
            await ask_all(ws, ["40"])
            [answer] = await ask_all(ws, [f'420["join_many","{name}",{count}]'])
            assert json.loads(answer[3:])[0] >= count
            assert (await inside(server))["rooms"] >= count
            ws.abort()

        await check_given_back(server, f"{count} rooms", join_and_leave)


# -- what is announced and never comes -----------------------------------------------------------------------

REPEATS = 20


async def test_absurd_announcements_are_refused_at_once_and_cost_nothing(listener: str) -> None:
    # aiohttp shows what has come of a chunk, but not how long it will be.
    chunk = b"77359400\r\n4" + b"x" * (3 if listener == "fast" else 1_000_000)
    with watched(listener) as server:
        client = EngineClient(server.port, SOCKET_IO)
        attachments = '451000000000-["x"]'

        async def post(sid: str, *lines: str, body: bytes) -> str:
            head = [f"POST {client.target(transport='polling', sid=sid)} HTTP/1.1", "Host: a", *lines, "", ""]
            async with await Connection.open(server.port) as connection:
                await connection.send("\r\n".join(head).encode() + body)
                response = await connection.read_response()
            return f"{response.status}: {response.json()['message']}"

        async def by_websocket(wire: bytes) -> str:
            ws = await connected(server)
            await ask_all(ws, ["40"])
            await ws.connection.send(wire)
            said = []
            while (frame := await ws.frame()).opcode != CLOSE:
                said.append(frame.text)
            ws.abort()
            return f"{said}, close {frame.close_code}"

        async def all_of_them() -> list[str]:
            sids = [(await client.handshake())["sid"] for _ in range(3)]
            body = attachments.encode()
            return [
                await by_websocket(WebSocket.encode(TEXT, b"4" + body)),
                await by_websocket(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"mask" + b"x" * 1000),
                await post(sids[0], f"Content-Length: {len(body) + 1}", body=b"4" + body),
                await post(sids[1], "Transfer-Encoding: chunked", body=chunk),
                await post(sids[2], f"Content-Length: {10**15}", body=b"4xxxx"),
            ]

        said = await all_of_them()
        for line in said:
            print(f"{listener}: {line}")
        assert "close 1009" in said[1]
        assert [line[:3] for line in said[2:]] == ["400", "413", "413"]
        async with watching(server) as watch:
            for _ in range(REPEATS):
                assert await all_of_them() == said
        print(f"{listener}: {watch.growth_bytes / MIB:.1f} MiB more over {REPEATS} of each")
        assert watch.growth_bytes <= KEPT_BYTES
        await until_inside(server, sessions=0)


# -- all buffers together ----------------------------------------------------------------------------------


async def test_messages_begun_and_never_ended_are_shed_by_size(listener: str) -> None:
    limit, large, small, few = 32 * MIB, 900_000, 100_000, 20
    with watched(listener, max_total_buffered_bytes=limit) as server:
        bystander = await other(server)
        await bystander.call("echo", "x" * large)

        async def begin(nbytes: int) -> WebSocket:
            """A WebSocket that has sent so much of an event, all of which is longer by one byte."""
            ws = await connected(server)
            await ask_all(ws, ["40"])
            event = b'420["echo","%b"]' % (b"x" * (nbytes - 13))
            wire = b"\x81\xff" + (nbytes + 1).to_bytes(8, "big") + bytes(4) + event
            try:
                await ws.connection.send(wire[:-1])
            except ConnectionError:
                pass  # shed already
            return ws

        async with watching(server) as watch:
            modest = [await begin(small) for _ in range(few)]
            greedy = [await begin(large) for _ in range(200)]
            assert await bystander.call("echo", "served") == "served"
        found = await inside(server)
        shed = found["refused"]["memory_shed"]
        held, growth = found["held_bytes"] / MIB, watch.growth_bytes / MIB
        print(f"{listener}: {shed} of {len(greedy)} shed, {held:.1f} MiB held, {growth:.1f} MiB more at the most")
        assert found["held_bytes"] <= limit
        assert shed >= len(greedy) - limit // large
        assert found["closed"] == {"memory shed": shed}
        assert watch.growth_bytes <= limit * 1.25 + 16 * MIB, "buffers grow in steps"
        for ws in modest:
            await ws.connection.send(b"]")
            assert len(await ws.text()) > small - 20
        for ws in [*modest, *greedy]:
            ws.abort()
        await bystander.disconnect()


def join_by_polling(port: int) -> tuple[str, str]:
    """A session with nobody who polls: its id, and the sid of its member of the namespace."""
    target = EngineClient(port, SOCKET_IO).target(transport="polling")
    with dial(port) as connection:
        say(connection, "GET", target)
        session_id = hear(connection, b'"maxPayload"').partition('"sid":"')[2].partition('"')[0]
        say(connection, "POST", f"{target}&sid={session_id}", body=b"40")
        hear(connection, b"ok")
        say(connection, "GET", f"{target}&sid={session_id}")
        sid = hear(connection, b'"}').partition('40{"sid":"')[2].partition('"')[0]
    assert session_id
    assert sid
    return session_id, sid


async def test_sessions_that_nobody_polls_are_shed_by_size(listener: str) -> None:
    limit, size, broadcasts = 16 * MIB, 2048, 200
    with watched(listener, max_total_buffered_bytes=limit) as server:
        sender, bystander = await other(server), await other(server)
        heard: list[int] = []
        bystander.on("blob", lambda blob: heard.append(blob["n"]))
        await sender.call("flood", (None, 50, size, True))
        joined = dict(reversed(join_by_polling(server.port)) for _ in range(1000))
        # With twice as much as is shed at a time.
        greedy = set(random.Random(7).sample(sorted(joined), 80))
        await eventually(lambda: len(heard) == 50, "the first blobs")
        heard.clear()

        async def shed() -> set[str]:
            reasons = await sender.call("reasons")
            return {sid for sid in joined if reasons.get(sid) == "memory shed"}

        most_held = 0
        async with watching(server) as watch:
            for sid in greedy:
                await sender.call("flood", (sid, 1, 100_000, False))
            first: set[str] = set()
            rounds = 0
            while not first:
                rounds += 1
                assert rounds < 20, "nobody was shed"
                await sender.call("flood", (None, 1, size, True))
                first = await shed()
            assert first <= greedy, "somebody with less went before those with most"
            for _ in range(broadcasts // 10):
                await sender.call("flood", (None, 10, size, True))
                most_held = max(most_held, (await inside(server))["held_bytes"])
        gone = await shed()
        found = await inside(server)
        print(
            f"{listener}: {len(first)} shed first, {len(gone)} of {len(joined)} in the end, {most_held / MIB:.1f} MiB "
            f"counted and {watch.growth_bytes / MIB:.1f} MiB more in memory at the most"
        )
        assert most_held <= limit
        assert watch.growth_bytes <= limit + 8 * MIB
        assert found["refused"]["memory_shed"] == len(gone)
        assert greedy <= gone
        # Who was not shed has missed nothing, and nor has who reads at once.
        sent = [0] * rounds + [*range(10)] * (broadcasts // 10)
        await eventually(lambda: len(heard) == len(sent), "all that was sent")
        assert heard == sent
        survivor = next(sid for sid in joined if sid not in gone)
        polled: list[int] = []
        while len(polled) < len(sent):
            packets = (await EngineClient(server.port, SOCKET_IO).get(joined[survivor])).text.split(SEPARATOR)
            polled += [json.loads(packet[2:])[1]["n"] for packet in packets]
        assert polled == sent
        await sender.disconnect()
        await bystander.disconnect()


# -- handlers ----------------------------------------------------------------------------------------------

EVENTS = {"fast": 200_000, "aiohttp": 40_000}
MAX_HANDLERS = 4000


def unmasked(text: str) -> bytes:
    """A short text frame, its mask zeros."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


async def test_more_events_than_handlers_keep_up_with_wait_outside(listener: str) -> None:
    """The client reads and answers pings, but sends as fast as TCP lets it."""
    count = EVENTS[listener]
    with watched(
        listener,
        max_handlers_per_connection=MAX_HANDLERS,
        packets_per_second=0,
        ping_interval=0.5,
        ping_timeout=2 * timeout_s(5),
    ) as server:
        ws = await connected(server)
        await ask_all(ws, ["40"])
        acks: list[str] = []
        pings = 0

        async def read() -> None:
            nonlocal pings
            while True:
                try:
                    text = await ws.text()
                except TimeoutError:
                    continue  # a pong that waits behind thousands of events lets the next ping wait too
                if text == "2":
                    pings += 1
                    await ws.send("3")
                else:
                    acks.append(text)

        reading = asyncio.create_task(read())
        try:
            # Few at first, so that each can be followed.
            few = MAX_HANDLERS // 2
            await ws.connection.send(b"".join([unmasked(f'42{n}["slow",{n}]') for n in range(few)]))
            await eventually(lambda: len(acks) == few, "all acks")
            assert acks == [f"43{n}[{n}]" for n in range(few)]
            found = await inside(server)
            assert (found["slow"]["handled"], found["slow"]["out_of_turn"]) == (few, 0)

            began, pings_before = time.monotonic(), pings
            async with watching(server) as watch:
                await ws.send('42["slow_anew"]')
                events = [unmasked(f'42["slow",{n}]') for n in range(count)]
                for n in range(0, count, 2000):
                    await ws.connection.send(b"".join(events[n : n + 2000]))
                await eventually(lambda: reading.done() or pings > pings_before + 1, "two heartbeats", 30)
                ends = time.monotonic() + timeout_s(60)
                while (found := await inside(server))["slow"]["handled"] < count:
                    assert time.monotonic() < ends, found
                    assert not reading.done(), found
                    await asyncio.sleep(0.02)
            slow = found["slow"]
            print(
                f"{listener}: {count} events in {time.monotonic() - began:.1f} s, {slow['peak']} handlers at a time, "
                f"held {found['held_for_handlers']} times, {pings - pings_before} heartbeats, "
                f"{watch.growth_bytes / MIB:.1f} MiB more"
            )
            assert MAX_HANDLERS // 2 < slow["peak"] <= MAX_HANDLERS
            assert (slow["handled"], slow["out_of_turn"], slow["running"]) == (count, 0, 0)
            # How often depends on how many handlers end between two portions of what was read; that the bound above was
            # reached and never passed is what holding is for.
            if slow["peak"] == MAX_HANDLERS:
                assert found["held_for_handlers"] >= 1
            assert watch.growth_bytes <= 32 * MIB
            acks.clear()
            await ws.send('420["echo","still here"]')
            await eventually(lambda: acks == ['430["still here"]'], "the last echo")
            assert found["closed"] == {}
        finally:
            reading.cancel()
            ws.abort()
