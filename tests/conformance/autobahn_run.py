"""Plays the Autobahn cases against echo servers, and tells how each did.

    python -m tests.conformance.autobahn_run [SECTION...]

prints a table, and every case that was not strictly right.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from gateway.runner import new_event_loop
from tests.conformance.autobahn_cases import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Case,
    Event,
    Hear,
    Linger,
    Message,
    Section,
    fragments,
    sections,
)
from tests.support.raw import websocket_headers
from tests.support.waiting import timeout_s
from transports.engine import Engine
from transports.hosts.aiohttp import serve
from transports.hosts.listener import Listener
from transports.outbound import DeflateForm, OutboundMessage
from transports.protocol import websocket_handshake
from transports.protocol.permessage_deflate import DeflateAgreement, agree
from transports.websocket_connection import WebSocketConnection

OK, NON_STRICT, FAIL = "OK", "NON-STRICT", "FAIL"
RANK = {OK: 2, NON_STRICT: 1, FAIL: 0}
#: The largest case has 16 MiB.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_LINGER_S = 0.1
_KINDS = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong"}


# -- the servers -------------------------------------------------------------------------------------------


class EchoConnection(WebSocketConnection):
    """The frame layer of the gateway, without Engine.IO. It reads no faster than its peer does."""

    def __init__(self, lingering: set[Any], deflate: DeflateAgreement | None) -> None:
        super().__init__(MAX_MESSAGE_BYTES, lingering, deflate)
        self._form = None if deflate is None else DeflateForm(deflate.window_bits, 0)

    def _echo(self, message: OutboundMessage) -> None:
        if self._transport is not None:
            self._transport.write(message.frames if self._form is None else message.deflated_frames(self._form))

    def text_received(self, text: str) -> None:
        self._echo(OutboundMessage(text.encode()))

    def binary_received(self, data: bytes) -> None:
        self._echo(OutboundMessage(None, (data,)))

    def writing_paused(self) -> None:
        self.pause_reading()

    def writing_resumed(self) -> None:
        self.resume_reading()


class EchoRoute(Engine):
    """An engine whose requests all become echoing WebSockets."""

    def handle(self, exchange: Any) -> None:
        key = websocket_handshake.check(exchange.request)
        deflate = agree(exchange.request.headers.get("sec-websocket-extensions", ""))
        extra = "" if deflate is None else f"Sec-WebSocket-Extensions: {deflate.answer}\r\n"
        connection = EchoConnection(self.lingering, deflate)
        transport, unread = exchange.take_over(connection)
        connection.begin(transport, websocket_handshake.accept(key, extra.encode()), unread)


async def _aiohttp_echo(request: web.Request) -> web.StreamResponse:
    ws = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


@asynccontextmanager
async def _listening(factory: Callable[[], asyncio.Protocol], lingering: set[Any]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(lingering):
            connection.abort()


@asynccontextmanager
async def fast_listener() -> AsyncIterator[int]:
    route: Any = EchoRoute()
    listener = Listener({"/echo/": route}, None)
    async with _listening(listener, route.lingering) as port:
        yield port
    listener.close()


@asynccontextmanager
async def _aiohttp_site(handler: Any, lingering: set[Any]) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/echo/", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        async with _listening(runner.server, lingering) as port:  # type: ignore[arg-type]
            yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def inside_aiohttp() -> AsyncIterator[int]:
    route: Any = EchoRoute()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await serve(route, request)

    async with _aiohttp_site(handle, route.lingering) as port:
        yield port


@asynccontextmanager
async def aiohttp_itself() -> AsyncIterator[int]:
    async with _aiohttp_site(_aiohttp_echo, set()) as port:
        yield port


FAST, INSIDE, PEER = "tidegate, fast listener", "tidegate, inside aiohttp", "aiohttp's own WebSocket"
SERVERS = {FAST: fast_listener, INSIDE: inside_aiohttp, PEER: aiohttp_itself}


# -- the client ----------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What the server said; ``code`` is 0 where it sent no close frame. ``mistake``: what it must never do."""

    heard: list[Event]
    code: int | None = 0
    has_ended: bool = False
    mistake: str = ""

    def verdict(self, case: Case) -> str:
        """How ``case`` went."""
        has_closed = self.has_ended and not self.mistake
        if not has_closed or (self.code != 0 and self.code not in case.codes):
            return FAIL
        if self.code == 0 and not case.is_refused:
            return FAIL
        if self.heard == list(case.heard):
            return OK if self.code != 0 else NON_STRICT
        return NON_STRICT if any(self.heard == list(loose) for loose in case.loosely) else FAIL

    def __str__(self) -> str:
        heard = ", ".join(f"{kind} {data[:20]!r}" for kind, data in self.heard[:5])
        end = "ended" if self.has_ended else "not ended"
        return f"heard [{heard}{', ...' if len(self.heard) > 5 else ''}], code {self.code}, {end} {self.mistake}"


class _Mistake(Exception):  # noqa: N818 - the server's, said in its outcome
    """The server broke the protocol."""


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.outcome = Outcome([])
        self._news = asyncio.Event()
        self._is_deflated = False
        self._inflater: Any = None
        self._deflater: Callable[[], Any] = zlib.compressobj
        self._keeps_context = False
        self._kept_deflater: Any = None

    async def shake_hands(self, offer: str | None) -> None:
        headers = {"Host": "test.example", **websocket_headers()}
        if offer is not None:
            headers["Sec-WebSocket-Extensions"] = offer
        lines = ["GET /echo/ HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())
        status, *answered = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].decode().split("\r\n")
        assert status.split()[1] == "101", status
        for line in answered:
            name, _, value = line.partition(": ")
            if name.lower() == "sec-websocket-extensions":
                self._agree(value)
        if offer is not None and not self._is_deflated:
            self.outcome.mistake = "compression was declined"

    def _agree(self, answer: str) -> None:
        name, *parameters = [part.strip() for part in answer.split(";")]
        assert name == "permessage-deflate", answer
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        bits = int(values.get("client_max_window_bits") or 15)
        self._is_deflated = True
        self._inflater = zlib.decompressobj(-int(values.get("server_max_window_bits") or 15))
        self._deflater = lambda: zlib.compressobj(wbits=-bits)
        self._keeps_context = "client_no_context_takeover" not in values

    def _encode(self, message: Message) -> bytes:
        data, rsv = message.data, 0
        if self._is_deflated:
            if self._kept_deflater is None or not self._keeps_context:
                self._kept_deflater = self._deflater()
            data = self._kept_deflater.compress(data) + self._kept_deflater.flush(zlib.Z_SYNC_FLUSH)
            data, rsv = data[:-4], RSV1
        return b"".join(fragments(message.opcode, data, message.fragment or max(len(data), 1), rsv))

    async def play(self, case: Case) -> None:
        """Send the script while listening, and listen to the end."""
        listener = asyncio.create_task(self._listen())
        try:
            for step in case.script:
                if isinstance(step, Hear):
                    await self._until(lambda step=step: len(self.outcome.heard) >= step.count)  # type: ignore[misc]
                elif isinstance(step, Linger):
                    await self._linger(step.name)
                elif not self.outcome.has_ended:
                    await self._send(self._encode(step) if isinstance(step, Message) else step)
            await self._until(lambda: False)
        finally:
            listener.cancel()
            self._writer.transport.abort()

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            pass  # the listener sees the end too
        await asyncio.sleep(0)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not self.outcome.has_ended and not condition():
            self._news.clear()
            await self._news.wait()

    async def _linger(self, name: str) -> None:
        try:
            async with asyncio.timeout(_LINGER_S):
                await self._until(lambda: False)
        except TimeoutError:
            self.outcome.heard.append(("waited", name.encode()))

    async def _listen(self) -> None:
        outcome = self.outcome
        try:
            while True:
                kind, data = await self._message()
                if outcome.code != 0:
                    raise _Mistake("something followed the close frame")
                if kind == "close":
                    outcome.code = int.from_bytes(data[:2], "big") if data else None
                else:
                    outcome.heard.append((kind, data))
                self._news.set()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                outcome.mistake = "the connection ended inside of a frame"
        except _Mistake as error:
            outcome.mistake = str(error)
        outcome.has_ended = True
        self._news.set()

    async def _frame(self) -> tuple[int, int, bool, bytes]:
        """Opcode, reserved bits, FIN and payload."""
        first, second = await self._reader.readexactly(2)
        if second & 0x80:
            raise _Mistake("a frame of the server is masked")
        size = second
        if size > 125:
            long = await self._reader.readexactly(2 if size == 126 else 8)
            size = int.from_bytes(long, "big")
            if size < (126 if len(long) == 2 else 65536):
                raise _Mistake("a length is not in its shortest form")
        return first & 0x0F, first & 0x70, bool(first & 0x80), await self._reader.readexactly(size)

    async def _message(self) -> Event:
        opcode, rsv, fin, data = await self._frame()
        if opcode == CLOSE or opcode in (PING, PONG):
            if rsv or not fin or len(data) > 125:
                raise _Mistake("a broken control frame")
            return ("close", data) if opcode == CLOSE else (_KINDS[opcode], data)
        if opcode not in (TEXT, BINARY) or (rsv and (rsv != RSV1 or not self._is_deflated)):
            raise _Mistake(f"a frame of opcode {opcode} with reserved bits {rsv:x}")
        parts = [data]
        while not fin:
            again, bits, fin, data = await self._frame()
            if again != CONTINUATION or bits:
                raise _Mistake("a broken continuation")
            parts.append(data)
        whole = b"".join(parts)
        if rsv:
            whole = self._inflater.decompress(whole + b"\x00\x00\xff\xff")
        return _KINDS[opcode], whole


async def play(case: Case, port: int) -> Outcome:
    """The outcome of ``case`` with the server at ``port``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * 1024 * 1024)
    client = _Client(reader, writer)
    try:
        async with asyncio.timeout(timeout_s(20)):
            await client.shake_hands(case.offer)
            await client.play(case)
    except TimeoutError:
        client.outcome.mistake = "the time has run out"
    finally:
        writer.transport.abort()
    return client.outcome


# -- results -----------------------------------------------------------------------------------------------


@dataclass
class Results:
    """Verdict and outcome by server and case."""

    section: Section
    outcomes: dict[str, dict[str, tuple[str, Outcome]]]

    def verdict(self, server: str, case: Case) -> str:
        return self.outcomes[server][case.id][0]

    def count(self, server: str) -> Counter[str]:
        return Counter(verdict for verdict, _ in self.outcomes[server].values())

    def told(self, server: str, cases: Iterable[Case]) -> str:
        """Lines that say how these cases went."""
        lines = []
        for case in cases:
            verdict, outcome = self.outcomes[server][case.id]
            lines.append(f"{case.id} ({case.does}): {verdict} of {server}: {outcome}")
        return "\n".join(lines)


async def run(section: Section) -> Results:
    """Play a section against every server."""
    outcomes: dict[str, dict[str, tuple[str, Outcome]]] = {}
    for name, server in SERVERS.items():
        async with server() as port:
            found = outcomes[name] = {}
            for case in section.cases:
                outcome = await play(case, port)
                found[case.id] = outcome.verdict(case), outcome
    return Results(section, outcomes)


def table(results: dict[str, Results]) -> str:
    """Markdown: cases by section and server, as ``OK`` or ``OK / NON-STRICT / FAIL``."""
    lines = [
        f"| section | cases | {' | '.join(SERVERS)} |",
        f"| --- | --- |{' --- |' * len(SERVERS)}",
    ]
    totals: dict[str, Counter[str]] = {name: Counter() for name in SERVERS}
    for number, result in results.items():
        cells = []
        for name in SERVERS:
            count = result.count(name)
            totals[name].update(count)
            cells.append(_cell(count))
        lines.append(f"| {number} {result.section.name} | {len(result.section.cases)} | {' | '.join(cells)} |")
    number_of_cases = sum(len(result.section.cases) for result in results.values())
    lines.append(f"| all | {number_of_cases} | {' | '.join(_cell(totals[name]) for name in SERVERS)} |")
    return "\n".join(lines)


def _cell(count: Counter[str]) -> str:
    parts = [f"{count[verdict]} {verdict}" for verdict in (OK, NON_STRICT, FAIL) if count[verdict]]
    return ", ".join(parts)


async def _main(numbers: list[str]) -> None:
    results = {}
    for number, section in sections().items():
        if numbers and number not in numbers:
            continue
        began = time.monotonic()
        result = results[number] = await run(section)
        for name in SERVERS:
            odd = [case for case in section.cases if result.verdict(name, case) != OK]
            if odd:
                print(result.told(name, odd))
        print(f"section {number}: {time.monotonic() - began:.1f} s\n", flush=True)
    print(table(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("section", nargs="*")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_main(parser.parse_args().section))
