"""Writing past the transport: everything arrives, in order, whatever the socket takes at once."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.support.waiting import eventually
from transports.accelerator import accelerator
from transports.socket_writer import NO_FD, SocketWriter, send_each

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


class Writer(SocketWriter):
    def __init__(self) -> None:
        super().__init__()
        self.made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.pauses = 0

    def connection_made(self, transport: Any) -> None:
        self.made.set_result(transport)

    def pause_writing(self) -> None:
        self.pauses += 1

    def connection_lost(self, exc: BaseException | None) -> None:
        self.drop_transport()
        self.lost.set()


class Connected:
    """A writer, and the other end of its connection."""

    def __init__(self, writer: Writer, peer: socket.socket, server: asyncio.Server) -> None:
        self.writer = writer
        self.peer = peer
        self.server = server

    async def read(self, nbytes: int) -> bytes:
        loop = asyncio.get_running_loop()
        read = bytearray()
        while len(read) < nbytes:
            data = await loop.sock_recv(self.peer, 1 << 20)
            if not data:
                break
            read += data
        return bytes(read)


async def connect() -> Connected:
    loop = asyncio.get_running_loop()
    writers: asyncio.Queue[Writer] = asyncio.Queue()

    def make() -> Writer:
        writer = Writer()
        writers.put_nowait(writer)
        return writer

    server = await loop.create_server(make, "127.0.0.1", 0)
    peer = socket.socket()
    peer.setblocking(False)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    await loop.sock_connect(peer, server.sockets[0].getsockname())
    writer = await writers.get()
    transport = await writer.made
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
    writer.take_transport(transport)
    return Connected(writer, peer, server)


def on_both_loops(body: Callable[[Connected], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """A test of ``body``, which is given a connection, on each loop."""

    async def run() -> None:
        connected = await connect()
        try:
            await body(connected)
        finally:
            connected.peer.close()
            transport = connected.writer.drop_transport()
            if transport is not None:
                transport.abort()
            connected.server.close()

    def test(loop: str) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(run())

    test.__name__ = body.__name__
    test.__doc__ = body.__doc__
    return pytest.mark.parametrize("loop", LOOPS)(test)


@on_both_loops
async def test_small_writes_arrive(connected: Connected) -> None:
    connected.writer.send(b"hello ")
    connected.writer.send(b"world")
    assert await connected.read(11) == b"hello world"


@pytest.mark.skipif(accelerator is None, reason="without the accelerator all goes to the transport")
@on_both_loops
async def test_what_the_socket_takes_never_meets_the_transport(connected: Connected) -> None:
    writer = connected.writer
    assert writer.direct_fd != NO_FD
    writer.send(b"hello")
    assert connected.peer.recv(100) == b"hello", "sent before the loop has had a turn"
    assert writer.buffered_bytes() == 0


@on_both_loops
async def test_nothing_overtakes_what_the_transport_holds(connected: Connected) -> None:
    """Direct, until the socket is full; to the transport, while it holds something; and direct again."""
    writer = connected.writer
    chance = random.Random(4)
    sent = bytearray()
    read = bytearray()
    for turn in range(200):
        data = chance.randbytes(chance.choice([1, 100, 50_000, 300_000]))
        if turn % 3 and writer.direct_fd != NO_FD:
            send_each([writer], [writer.direct_fd], [data])
        else:
            writer.send(data)
        sent += data
        if len(sent) - len(read) > 3_000_000:
            read += await connected.read(len(sent) - len(read) - chance.choice([0, 1000, 500_000]))
    read += await connected.read(len(sent) - len(read))
    assert read == sent
    assert writer.pauses > 0, "the transport never held anything"
    await eventually(lambda: writer.buffered_bytes() == 0, "the transport is empty")
    writer.send(b"end")
    assert await connected.read(3) == b"end"
    assert accelerator is None or writer.direct_fd != NO_FD


@on_both_loops
async def test_what_was_written_to_the_transport_before_comes_first(connected: Connected) -> None:
    writer = connected.writer
    transport = writer.drop_transport()
    assert transport is not None
    transport.write(b"x" * 5_000_000)
    writer.take_transport(transport)
    writer.send(b"end")
    assert (await connected.read(5_000_003))[-4:] == b"xend"


@on_both_loops
async def test_the_transport_finds_the_error_of_a_peer_that_is_gone(connected: Connected) -> None:
    connected.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connected.peer.close()  # with a reset
    while not connected.writer.lost.is_set():
        connected.writer.send(b"x" * 1000)
        await asyncio.sleep(0)
    assert connected.writer.direct_fd == NO_FD
    connected.writer.send(b"to nobody")
    assert connected.writer.buffered_bytes() == 0


@on_both_loops
async def test_without_its_transport_nothing_is_written(connected: Connected) -> None:
    transport = connected.writer.drop_transport()
    connected.writer.send(b"lost")
    assert transport is not None
    transport.write(b"kept")
    assert await connected.read(4) == b"kept"


@pytest.fixture(scope="module")
def tls_contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server for localhost, and of a client that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    subprocess.run(
        ["openssl", *command.split(), "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return serving, ssl.create_default_context(cafile=folder / "cert.pem")


async def test_tls_is_left_to_the_transport(tls_contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    serving, trusting = tls_contexts
    loop = asyncio.get_running_loop()
    writers: asyncio.Queue[Writer] = asyncio.Queue()

    class Served(Writer):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            writers.put_nowait(self)

    server = await loop.create_server(Served, "127.0.0.1", 0, ssl=serving)
    reader, out = await asyncio.open_connection(
        *server.sockets[0].getsockname()[:2], ssl=trusting, server_hostname="localhost"
    )
    writer = await writers.get()
    writer.take_transport(await writer.made)
    assert writer.direct_fd == NO_FD
    writer.send(b"secret")
    assert await reader.readexactly(6) == b"secret"
    out.close()
    await writer.lost.wait()
    server.close()
