"""Pausing on real connections: the client is held back by TCP, and everything comes in order afterwards."""

from __future__ import annotations

from typing import Any

from tests.conformance.autobahn_cases import frame
from tests.support.raw import CLOSE, TEXT, WebSocket
from tests.support.waiting import eventually

COUNT = 20_000
PAD = "x" * 1000


async def test_a_paused_port_holds_the_client_back_and_loses_nothing(echo_engine: Any) -> None:
    server = await echo_engine()
    got: list[str] = []
    server.engine.on("message", lambda _, data: got.append(data))
    ws: WebSocket = await server.client.websocket()
    await ws.opening()
    port = server.engine.sockets[server.connected[0]].port
    port.pause_reading()
    writer = ws.connection.writer
    writer.write(b"".join([frame(TEXT, f"4{n} {PAD}".encode()) for n in range(COUNT)]))
    sizes = [0, 1]

    def is_stuck() -> bool:
        sizes.append(writer.transport.get_write_buffer_size())
        return sizes[-20:] == sizes[-1:] * 20

    await eventually(is_stuck, "the kernel's buffers full, the rest with the client")
    assert sizes[-1] > 1_000_000
    assert got == []
    assert port.buffered_in() < 1_000_000
    # From now on it pauses by itself, every 500 messages, in the middle of chunks.
    server.engine.on("message", lambda _, data: (got.append(data), len(got) % 500 or port.pause_reading()))

    def resume() -> bool:
        port.resume_reading()
        return len(got) == COUNT

    await eventually(resume, "all messages", 30)
    assert [int(message.split()[0]) for message in got] == list(range(COUNT))
    await eventually(lambda: port.buffered_in() == 0)
    await ws.send_frame(CLOSE, b"\x03\xe8")
    assert (await ws.frame()).close_code == 1000
    assert await ws.connection.has_ended()
    await ws.close()


async def test_a_client_that_breaks_the_framing_is_let_go_at_once(echo_engine: Any) -> None:
    server = await echo_engine()
    ws: WebSocket = await server.client.websocket()
    await ws.opening()
    await ws.connection.send(WebSocket.encode(3, b"") + WebSocket.encode(TEXT, b"4late") * 10_000)
    assert (await ws.frame()).close_code == 1002
    assert await ws.connection.has_ended(), "without an answer"
    await ws.close()
    await eventually(lambda: not server.engine.lingering, "the end of the connection")


async def test_a_client_that_neither_reads_nor_leaves_is_dropped(echo_engine: Any) -> None:
    server = await echo_engine()
    ws: WebSocket = await server.client.websocket()
    await ws.opening()
    await ws.connection.send(WebSocket.encode(3, b""))
    await eventually(lambda: server.disconnected, "the end of the session")
    await eventually(lambda: not server.engine.lingering, "the end of the connection")
    ws.abort()
