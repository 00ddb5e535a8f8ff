"""Bodies that no honest client sends: too long, too slow, cut wrongly, compressed to burst.

Spec: RFC 9112, sections 6 and 7; RFC 9110, sections 8.4, 10.1.1 and 15.5.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

import gateway.runner
import transports.hosts.aiohttp
from tests.support.raw import Connection, EngineClient, Response, closing
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually
from transports.hosts.listener import Listener

LIMIT = 1000
Start = Callable[..., Awaitable[Any]]


@pytest.fixture
async def server(echo_engine: Start) -> Any:
    """An echoing engine, and the check that a client of it who did nothing wrong is served as before."""
    server = await echo_engine(max_http_buffer_size=LIMIT)
    ws = await server.client.websocket()
    async with closing(ws):
        await ws.opening()
        yield server
        await ws.send("4still here")
        assert await ws.text() == "4still here"


class Posting:
    """A session, and POSTs to it by hand."""

    def __init__(self, server: Any, sid: str) -> None:
        self.server = server
        self.client: EngineClient = server.client
        self.sid = sid

    def head(self, *lines: str, version: str = "1.1") -> bytes:
        target = self.client.target(transport="polling", sid=self.sid)
        return "\r\n".join([f"POST {target} HTTP/{version}", "Host: a", *lines, "", ""]).encode()

    async def send(self, *parts: bytes) -> Response:
        async with await Connection.open(self.client.port) as connection:
            for part in parts:
                await connection.send(part)
            return await connection.read_response()

    def is_alive(self) -> bool:
        return self.sid in self.server.engine.sockets

    async def received(self) -> str:
        return (await self.client.get(self.sid)).text


@pytest.fixture
async def posting(server: Any) -> Posting:
    return Posting(server, (await server.client.handshake())["sid"])


# -- lengths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [True, False])
async def test_too_long_a_body_is_refused_before_it_comes(posting: Posting, waits: bool) -> None:
    client, engine = posting.client, posting.server.engine
    poll = await client.begin("GET", client.target(transport="polling", sid=posting.sid)) if waits else None
    if waits:
        await eventually(lambda: engine.sockets[posting.sid].port.writable, "the poll")
    response = await posting.send(posting.head("Content-Length: 1000000000"))
    assert (response.status, response.json()["code"]) == (413, 3)
    assert str(LIMIT) in response.json()["message"]
    if poll is not None:
        async with poll:
            end = await poll.read_response()
            assert (end.status, end.body) == (200, b"1")
    assert (await client.get(posting.sid)).json()["code"] == 1
    assert posting.server.disconnected == [(posting.sid, "parse error")]


async def test_expectation_is_met_only_where_the_body_is_wanted(posting: Posting) -> None:
    async with await Connection.open(posting.client.port) as connection:
        await connection.send(posting.head("Content-Length: 6", "Expect: 100-continue"))
        assert (await connection.read_head()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(b"4hello")
        assert (await connection.read_response()).text == "ok"
    assert await posting.received() == "4hello"
    for lines in (["Content-Length: 1001"], ["Content-Length: 5", "Content-Encoding: compress"]):
        other = Posting(posting.server, (await posting.client.handshake())["sid"])
        response = await other.send(other.head(*lines, "Expect: 100-continue"))
        assert response.status in (413, 415)


async def test_client_of_http_1_0_is_not_told_to_continue(posting: Posting) -> None:
    lines = ["Content-Length: 6", "Expect: 100-continue"]
    response = await posting.send(posting.head(*lines, version="1.0") + b"4he", b"llo")
    assert (response.status, response.text) == (200, "ok")


async def test_post_without_a_length_has_no_body(posting: Posting) -> None:
    response = await posting.send(posting.head())
    assert (response.status, response.json()["code"]) == (400, 3)
    assert not posting.is_alive()


async def test_body_in_one_byte_segments(posting: Posting) -> None:
    body = b"4" + b"x" * (LIMIT - 1)
    async with await Connection.open(posting.client.port) as connection:
        await connection.send(posting.head(f"Content-Length: {LIMIT}"))
        for byte in body:
            await connection.send(bytes([byte]))
        assert (await connection.read_response()).text == "ok"
    assert await posting.received() == body.decode()


@pytest.mark.parametrize("body", [b"4\xff", b"4\xed\xa0\x80", b"4a\x1e4\xc0\x80", b"\xe2\x82\xac"])
async def test_text_that_is_no_utf_8_ends_the_session(posting: Posting, body: bytes) -> None:
    response = await posting.send(posting.head(f"Content-Length: {len(body)}") + body)
    assert (response.status, response.json()["code"]) == (400, 3)
    assert not posting.is_alive()


# -- chunks ------------------------------------------------------------------------------------------------

CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\n4ab\r\n0\r\n\r\n",
        b'3;a=b;c="d;e"\r\n4ab\r\n0;x\r\n\r\n',
        b"1\r\n4\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        b"3\r\n4ab\r\n0\r\nX-Trailer: y\r\nX: \r\n\r\n",
        b"00000003\r\n4ab\r\n000\r\n\r\n",
    ],
)
async def test_chunks_are_joined(posting: Posting, body: bytes) -> None:
    async with await Connection.open(posting.client.port) as connection:
        await connection.send(posting.head(CHUNKED) + body + posting.head(CHUNKED) + body)
        assert (await connection.read_response()).text == "ok"
        assert (await connection.read_response()).text == "ok"
    assert await posting.received() == "4ab\x1e4ab"
    response = await posting.send(posting.head(CHUNKED), *[bytes([byte]) for byte in body])
    assert response.text == "ok"


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x3\r\n4ab\r\n0\r\n\r\n",
        b"+3\r\n4ab\r\n0\r\n\r\n",
        b"\r\n",
        b"3\r\n4abc\r\n0\r\n\r\n",
        b"3\n4ab\n0\n\n",
        b"fffffffffffffffffff\r\n",
    ],
)
async def test_malformed_chunks_are_refused(posting: Posting, listener: str, body: bytes) -> None:
    response = await posting.send(posting.head(CHUNKED) + body)
    assert response.status == 400
    # aiohttp's parser sees all of it before the engine sees any.
    assert posting.is_alive() == (listener == "aiohttp")


@pytest.mark.parametrize(
    "body",
    [
        b"3e9\r\n" + b"x" * 1001,
        b"ffffffff\r\n" + b"x" * 1001,
        b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501,
        b"1\r\nx\r\n" * 1001,
    ],
    ids=["at once", "at once by far", "together", "one by one"],
)
async def test_chunks_over_the_limit_are_refused(posting: Posting, body: bytes) -> None:
    response = await posting.send(posting.head(CHUNKED) + body)
    assert (response.status, response.json()["code"]) == (413, 3)
    assert not posting.is_alive()


@pytest.mark.parametrize("listener", ["fast"], indirect=True)
@pytest.mark.parametrize("size", [b"3e9", b"ffffffff", b"1;" + b"x" * 1025, b"fffffffff"])
async def test_chunks_are_refused_before_they_come(posting: Posting, size: bytes) -> None:
    response = await posting.send(posting.head(CHUNKED) + size + b"\r\n")
    assert response.status == (413 if len(size) < 9 else 400)
    assert not posting.is_alive()


async def test_endless_trailers_are_refused(posting: Posting) -> None:
    response = await posting.send(posting.head(CHUNKED) + b"2\r\n4a\r\n0\r\n" + b"X: y\r\n" * 10_000)
    assert response.status == 400


async def test_chunks_are_not_for_http_1_0(posting: Posting) -> None:
    response = await posting.send(posting.head(CHUNKED, version="1.0") + b"2\r\n4a\r\n0\r\n\r\n")
    assert (response.status, response.json()["code"]) == (400, 3)


# -- codings -----------------------------------------------------------------------------------------------


def bare_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACKERS = {
    "gzip": ("gzip", gzip.compress),
    "GZIP": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "identity": ("identity", bytes),
}


@pytest.mark.parametrize("name", PACKERS)
async def test_compressed_bodies_are_inflated(posting: Posting, name: str) -> None:
    coding, pack = PACKERS[name]
    text = "4" + "ö" * 499
    body = pack(text.encode())
    async with await Connection.open(posting.client.port) as connection:
        lines = [f"Content-Encoding: {coding}"]
        await connection.send(posting.head(*lines, f"Content-Length: {len(body)}") + body)
        assert (await connection.read_response()).text == "ok"
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        await connection.send(posting.head(*lines, CHUNKED) + chunks)
        assert (await connection.read_response()).text == "ok"
    assert await posting.received() == f"{text}\x1e{text}"


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "bare deflate"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_the_limit_counts_after_inflation(posting: Posting, name: str, framing: str) -> None:
    coding, pack = PACKERS[name]
    body = pack(b"4" + b"x" * LIMIT)
    head = posting.head(
        f"Content-Encoding: {coding}", CHUNKED if framing == "chunked" else f"Content-Length: {len(body)}"
    )
    response = await posting.send(
        head + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if framing == "chunked" else body)
    )
    assert (response.status, response.json()["code"]) == (413, 3)
    assert not posting.is_alive()


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "bare deflate"])
async def test_broken_data_is_refused(posting: Posting, name: str) -> None:
    coding, pack = PACKERS[name]
    body = bytearray(pack(b"4" + bytes(range(32, 120)) * 3))
    body[-3 if name != "bare deflate" else 0] ^= 0xFF  # the checksum, or the kind of the first block
    response = await posting.send(
        posting.head(f"Content-Encoding: {coding}", f"Content-Length: {len(body)}") + bytes(body)
    )
    assert (response.status, response.json()["code"]) == (400, 3)
    assert not posting.is_alive()


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "identity, br", "gzip;q=1", "\xe4"]
)
async def test_other_codings_are_refused_by_name(posting: Posting, listener: str, coding: str) -> None:
    body = gzip.compress(b"4a")
    async with await Connection.open(posting.client.port) as connection:
        head = posting.head(f"Content-Encoding: {coding}", f"Content-Length: {len(body)}")
        await connection.send(head.decode().encode("latin-1") + body)
        response = await connection.read_response()
    if response.status == 400:
        assert (listener, coding in ("br", "zstd")) == ("aiohttp", True), "aiohttp knows them, if only by name"
        return
    assert (response.status, response.json()["code"]) == (415, 3)
    assert response.headers["accept-encoding"] == "gzip, deflate, identity"


BOMB_BYTES = 200_000_000


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A body of 200 kB that inflates to 200 MB."""
    stream = zlib.compressobj(9, wbits=31)
    return b"".join([*(stream.compress(bytes(1_000_000)) for _ in range(BOMB_BYTES // 1_000_000)), stream.flush()])


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_bomb_does_not_go_off(
    listener: str, framing: str, bomb: bytes, server_process: Callable[..., ServerProcess]
) -> None:
    server = server_process(listener=listener)
    client = EngineClient(server.port, "/socket.io/")
    process = psutil.Process(server.pid)
    sids = [(await client.handshake())["sid"] for _ in range(4)]
    before = process.memory_info().rss
    peak = before
    for sid in sids:
        async with await Connection.open(client.port) as connection:
            length = CHUNKED if framing == "chunked" else f"Content-Length: {len(bomb)}"
            target = client.target(transport="polling", sid=sid)
            lines = [f"POST {target} HTTP/1.1", "Host: a", "Content-Encoding: gzip", length, "", ""]
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb) if framing == "chunked" else bomb
            await connection.send("\r\n".join(lines).encode() + body)
            assert (await connection.read_response()).status == 413
            peak = max(peak, process.memory_info().rss)
    growth = f"{(peak - before) / 2**20:.1f} MiB more"
    print(f"{listener}, {framing}: {len(sids)} times {len(bomb)} bytes of {BOMB_BYTES}: {growth}")
    assert peak - before < 30_000_000, "four bombs of 200 MB each, of which 1 MB each may be inflated"


# -- time --------------------------------------------------------------------------------------------------


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> list[Listener]:
    """Deadlines of requests are short; the listeners that are made."""
    made: list[Listener] = []

    def make(*args: Any) -> Listener:
        made.append(Listener(*args, request_timeout_s=0.3, linger_s=0.3))
        return made[-1]

    monkeypatch.setattr(gateway.runner, "Listener", make)
    monkeypatch.setattr(transports.hosts.aiohttp, "REQUEST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(transports.hosts.aiohttp, "LINGER_S", 0.3)
    return made


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["Content-Length: 100", CHUNKED])
async def test_a_body_that_does_not_come_is_given_up(
    short_deadlines: list[Listener], posting: Posting, framing: str, coding: str
) -> None:
    async with await Connection.open(posting.client.port) as connection:
        await connection.send(posting.head(framing, f"Content-Encoding: {coding}"))
        response = await connection.read_response()
        assert (response.status, response.json()["code"]) == (408, 3)
        assert await connection.has_ended()
    assert (await posting.client.post(posting.sid, "4again")).text == "ok"
    assert await posting.received() == "4again"


@pytest.mark.parametrize("listener", ["fast"], indirect=True)
@pytest.mark.parametrize("sent", [b"", b"GET", b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n"])
async def test_half_open_peers_are_let_go(short_deadlines: list[Listener], server: Any, sent: bytes) -> None:
    [listener] = short_deadlines
    async with await Connection.open(server.client.port) as connection:
        await connection.send(sent)
        await eventually(lambda: len(listener.connections) == 1, "the connection")
        assert await connection.has_ended()
    assert len(listener.connections) == 0
