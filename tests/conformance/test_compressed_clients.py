"""permessage-deflate between real clients and real servers, and what a bomb does."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import aiohttp
import pytest

from tests.conformance.node_scripts import run_concern
from tests.conformance.test_slow_clients import MemoryWatch
from tests.support.raw import BINARY, CLOSE, TEXT, EngineClient, Head, WebSocket
from tests.support.servers import LISTENERS, ServerProcess

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MAX_PAYLOAD_BYTES = 1_000_000
BOMB_BYTES = 200_000_000


def extensions(head: Head) -> str | None:
    return head.headers.get("sec-websocket-extensions")


def compressed(opcode: int, packed: bytes) -> bytes:
    frame = bytearray(WebSocket.encode(opcode, packed))
    frame[0] |= 0x40
    return bytes(frame)


@pytest.mark.node
@pytest.mark.parametrize(
    ("client", "listener"), [("4:websocket", "fast"), ("4:polling>websocket", "aiohttp"), ("3:websocket", "fast")]
)
def test_node_clients_are_spared_most_bytes(server_process: Any, listener: str, client: str) -> None:
    server = server_process(listener=listener, websocket_compression=True)
    result = run_concern("compression", url=server.url, client=client)
    assert "permessage-deflate" in result["extensions"]
    size = result["size"]
    assert size > 100_000
    assert result["text"]["same"]
    assert result["text"]["received"] < size / 5
    assert result["text"]["sent"] < size / 5
    assert result["binary"]["same"]
    assert result["binary"]["received"] < 10_000
    assert 500 < result["short"]["received"] < 600, "shorter than compression_threshold"
    print(f"{client}, {listener}: {result}")


@pytest.mark.node
@pytest.mark.parametrize(
    ("server_compresses", "settings"), [(False, {}), (True, {"perMessageDeflate": False})], ids=["server", "client"]
)
def test_nothing_is_compressed_where_one_side_will_not(
    server_process: Any, server_compresses: bool, settings: dict[str, Any]
) -> None:
    server = server_process(websocket_compression=server_compresses)
    result = run_concern("compression", url=server.url, client="4:websocket", **settings)
    assert result["extensions"] == ""
    assert result["text"]["received"] > result["size"]


@pytest.mark.node
@pytest.mark.parametrize("listener", LISTENERS)
def test_everything_is_said_and_heard_compressed(server_process: Any, listener: str) -> None:
    # Every message is over this threshold.
    server = server_process(listener=listener, websocket_compression=True, compression_threshold=0)
    big = run_concern("big", url=server.url, client="4:websocket")
    assert big == {"text": True, "binary": True, "made": 500_000, "disconnects": []}
    said = run_concern("messages", url=server.url, client="4:websocket")
    assert said["unicode"] == ['zwölf € 😀 \x1e \u2028 \x00 "\\']
    assert said["ticks"] == [[n, 50] for n in range(300)]


@pytest.mark.browser
def test_chromium_talks_compressed(server_process: Any) -> None:
    server = server_process(websocket_compression=True, compression_threshold=0)
    cases = [{"name": "stock", "library": "stock", "path": "polling>websocket"}]
    result = run_concern("browser", url=server.url, cases=cases, seconds=100)["stock"]
    assert result["errors"] == []
    assert result["bursts"] == [list(range(200))] * 2
    assert result["transport"] == "websocket"
    assert result["disconnects"] == []


@pytest.mark.parametrize("window_bits", [9, 11, 15])
async def test_aiohttps_client_reads_every_window(echo_engine: Any, window_bits: int) -> None:
    """aiohttp holds the server to the window it names."""
    server = await echo_engine(websocket_compression=True)
    url = f"http://127.0.0.1:{server.client.port}/engine.io/?EIO=4&transport=websocket"
    text = "4" + "".join(f"row {n}, " for n in range(9000))
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=window_bits) as ws:
        assert ws.compress
        await ws.receive_str()
        for _ in range(3):
            await ws.send_str(text)
            assert await ws.receive_str() == text
            await ws.send_bytes(text.encode())
            assert await ws.receive_bytes() == text.encode()


async def test_bytes_of_a_compressed_message(echo_engine: Any) -> None:
    server = await echo_engine(websocket_compression=True)
    ws = await server.client.websocket(headers=OFFER)
    assert extensions(ws.head) == ANSWER
    await ws.opening()
    await ws.send("4" + "x" * 5000)
    first, second = await ws.connection.read_exactly(2)
    assert first == 0xC1
    assert second < 126, "5,001 bytes fit into a short frame"
    packed = await ws.connection.read_exactly(second)
    assert zlib.decompressobj(-15).decompress(packed + b"\x00\x00\xff\xff") == b"4" + b"x" * 5000
    await ws.send("4" + "y" * 1000)
    assert (await ws.frame()).text == "4" + "y" * 1000
    await ws.close()


async def test_upgrade_is_compressed_too(echo_engine: Any) -> None:
    server = await echo_engine(websocket_compression=True)
    sid = (await server.client.handshake())["sid"]
    ws = await server.client.websocket(sid, headers=OFFER)
    assert extensions(ws.head) == ANSWER
    await ws.send("2probe")
    assert await ws.text() == "3probe"
    await ws.close()


@pytest.mark.parametrize("offer", [None, "permessage-deflate; server_max_window_bits=8", "permessage-deflate; x=1"])
async def test_handshake_without_an_offer_that_fits_is_plain(echo_engine: Any, offer: str | None) -> None:
    server = await echo_engine(websocket_compression=True)
    ws = await server.client.websocket(headers=None if offer is None else {"Sec-WebSocket-Extensions": offer})
    assert extensions(ws.head) is None
    await ws.opening()
    await ws.send("4" + "x" * 5000)
    assert await ws.text() == "4" + "x" * 5000
    await ws.connection.send(compressed(BINARY, b"\x00"))
    assert (await ws.frame()).close_code == 1002
    assert await ws.connection.has_ended()
    await ws.close()


async def bombed(server: ServerProcess, wire: bytes) -> tuple[int, MemoryWatch]:
    """The close code that ``wire`` is answered with, and the growth meanwhile."""
    client = EngineClient(server.port, "/socket.io/")
    ws = await client.websocket(headers=OFFER)
    await ws.opening()
    await ws.send("40")
    assert (await ws.text()).startswith("40{")
    watch = MemoryWatch(server.pid)
    is_over = asyncio.Event()

    async def look() -> None:
        while not is_over.is_set():
            watch.look()
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look())
    try:
        await ws.connection.send(wire)
        while (frame := await ws.frame()).opcode != CLOSE:
            pass
        watch.look()
    finally:
        is_over.set()
        await looking
        await ws.close()
    return frame.close_code, watch


@pytest.mark.parametrize("listener", LISTENERS)
async def test_bomb_ends_with_its_close_code_and_costs_little(listener: str) -> None:
    packer = zlib.compressobj(9, wbits=-15)
    zeros = bytes(1_000_000)
    packed = b"".join([packer.compress(zeros) for _ in range(BOMB_BYTES // len(zeros))])
    packed += packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(packed) < 250_000
    with ServerProcess(listener=listener, websocket_compression=True) as server:
        code, watch = await bombed(server, compressed(BINARY, packed))
        assert code == 1009
        assert watch.growth_bytes < 8 * MAX_PAYLOAD_BYTES
        print(f"{listener}: {len(packed)} bytes of {BOMB_BYTES}: {watch.growth_bytes / 2**20:.1f} MiB more")


async def test_chunk_full_of_allowed_messages_is_inflated_one_by_one() -> None:
    """Each is an event within the bound, all of them together are 250 times it; a broken frame ends them."""
    packer = zlib.compressobj(9, wbits=-15)
    event = b'42["nobody listens","%b"]' % (b"0" * (MAX_PAYLOAD_BYTES - 100))
    packed = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    wire = compressed(TEXT, packed) * 250 + WebSocket.encode(3, b"")
    with ServerProcess(websocket_compression=True) as server:
        code, watch = await bombed(server, wire)
        assert code == 1002
        assert "unknown opcode" in server.log(), "all of them were taken"
        assert watch.growth_bytes < 16 * MAX_PAYLOAD_BYTES
        print(f"{len(wire)} bytes of 250 messages: {watch.growth_bytes / 2**20:.1f} MiB more")
