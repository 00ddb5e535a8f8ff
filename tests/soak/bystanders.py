"""Clients that do everything right: numbered messages both ways, each once and in order, and how long answers take."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

from tests.support.raw import CLOSE, SEPARATOR, EngineClient, WebSocket
from tests.support.waiting import timeout_s

from .misbehaviour import JOIN, PATH

#: Pause between an answer and the next number.
PAUSE_S = 0.02
PATHS = ("websocket", "xhr-streaming", "polling", "polling>websocket", "xhr-streaming>websocket")
#: Stock clients, as ``tests/conformance/node/clients.mjs`` names them.
NODE_CLIENTS = ("4:polling>websocket", "4:polling")
_CONFORMANCE = Path(__file__).parent.parent / "conformance"


class BrokenPromiseError(AssertionError):
    """A promise to a bystander was broken."""


class Bystander:
    """``run`` returns after ``leave``, with a few messages exchanged at least. Raises: BrokenPromiseError."""

    def __init__(self, port: int, path: str) -> None:
        self.name = path
        self.answers_s: list[float] = []
        self.ticks = 0
        self._first, _, self._next = path.partition(">")
        self._client = EngineClient(port, PATH)
        self._port_name = self._first
        self._session_id = ""
        self._ws: WebSocket | None = None
        self._last_tick: int | None = None
        self._answers: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._is_leaving = False
        self._has_left = False  # it has said so, and nothing it waits for is left
        self._has_joined = asyncio.Event()
        self._may_poll = asyncio.Event()
        self._may_poll.set()
        self._has_paused = asyncio.Event()

    # -- the transports --------------------------------------------------------------------------------

    async def _send(self, *packets: str) -> None:
        if self._ws is not None:
            for packet in packets:
                await self._ws.send(packet)
        else:
            response = await self._client.post(self._session_id, SEPARATOR.join(packets), self._port_name)
            if response.status != 200:
                raise BrokenPromiseError(f"{self.name}: POST was answered with {response.status} {response.text}")

    async def _open(self) -> None:
        if self._first == "websocket":
            self._ws = await self._client.websocket()
            opening = await self._ws.opening()
        elif self._first == "polling":
            opening = await self._client.handshake()
        else:
            stream = await self._client.stream()
            opening = await stream.opening()
            self._stream = stream
        self._session_id = opening["sid"]

    async def _read_websocket(self) -> None:
        assert self._ws is not None
        while True:
            try:
                frame = await self._ws.frame()
            except asyncio.IncompleteReadError:
                if self._has_left:
                    return
                raise BrokenPromiseError(f"{self.name}: the connection was lost") from None
            if frame.opcode == CLOSE:
                if self._has_left:
                    return
                raise BrokenPromiseError(f"{self.name}: closed with {frame.payload!r}")
            await self._take(frame.text)

    async def _read_stream(self) -> None:
        stream = self._stream
        while True:
            try:
                record = await stream.record()
            except EOFError:
                await stream.close()
                if self._has_left or self._ws is not None:
                    return
                if not self._may_poll.is_set():
                    await self._pause()
                    return
                stream = await self._client.stream(self._session_id)
                if stream.head.status != 200:
                    raise BrokenPromiseError(f"{self.name}: the stream was not resumed: {stream.head}") from None
            else:
                await self._take(record)

    async def _read_polls(self) -> None:
        while True:
            response = await self._client.get(self._session_id)
            if response.status != 200:
                if self._has_left:
                    return
                raise BrokenPromiseError(f"{self.name}: GET was answered with {response.status} {response.text}")
            for packet in response.text.split(SEPARATOR):
                await self._take(packet)
            if not self._may_poll.is_set():
                await self._pause()
                return

    async def _upgrade(self) -> None:
        ws = await self._client.websocket(self._session_id)
        await ws.send("2probe")
        if await ws.text() != "3probe":
            raise BrokenPromiseError(f"{self.name}: the probe was not answered")
        self._may_poll.clear()
        try:
            await asyncio.wait_for(self._has_paused.wait(), timeout_s(10))
        except TimeoutError:
            raise BrokenPromiseError(f"{self.name}: the old transport was not released") from None
        await ws.send("5")
        self._ws = ws
        self._may_poll.set()

    async def _pause(self) -> None:
        """The old transport's last response has been read; go on once the new one is in use."""
        self._has_paused.set()
        await self._may_poll.wait()

    # -- the messages ----------------------------------------------------------------------------------

    async def _take(self, packet: str) -> None:
        if packet == "2":
            await self._send("3")
        elif packet.startswith('42["tick",'):
            number = json.loads(packet[2:])[1]
            if self._last_tick is not None and number != self._last_tick + 1:
                raise BrokenPromiseError(f"{self.name}: tick {number} behind {self._last_tick}")
            self._last_tick = number
            self.ticks += 1
        elif packet.startswith("40"):
            self._has_joined.set()
        elif packet.startswith("43"):
            head, _, data = packet[2:].partition("[")
            self._answers.put_nowait((int(head), json.loads("[" + data)))
        elif packet == "1" and not self._has_left:
            raise BrokenPromiseError(f"{self.name}: the server closed the session")

    async def _read(self) -> None:
        if self._ws is not None:
            await self._read_websocket()
            return
        await (self._read_polls() if self._first == "polling" else self._read_stream())
        if self._ws is not None:
            await self._read_websocket()

    async def _count(self) -> None:
        """Numbers, one after the other; three at once every now and then."""
        await self._send(JOIN)
        await asyncio.wait_for(self._has_joined.wait(), timeout_s(10))
        await self._send('420["watch"]')
        await self._answer(0)
        number = 1
        while not self._is_leaving or self.ticks < 2 or number < 4:
            count = 3 if number % 10 == 0 else 1
            began = time.monotonic()
            await self._send(*(f'42{n}["number",{n}]' for n in range(number, number + count)))
            for n in range(number, number + count):
                if (data := await self._answer(n)) != [n]:
                    raise BrokenPromiseError(f"{self.name}: {n} was answered with {data}")
            self.answers_s.append(time.monotonic() - began)
            number += count
            if number == 8 and self._next:
                await self._upgrade()
            await asyncio.sleep(PAUSE_S)
        self._has_left = True
        await self._send("1")

    async def _answer(self, number: int) -> Any:
        try:
            found, data = await asyncio.wait_for(self._answers.get(), timeout_s(10))
        except TimeoutError:
            raise BrokenPromiseError(f"{self.name}: {number} was not answered") from None
        if found != number:
            raise BrokenPromiseError(f"{self.name}: ack {found} where {number} was due")
        return data

    async def run(self) -> None:
        await self._open()
        reading = asyncio.create_task(self._read())
        counting = asyncio.create_task(self._count())
        try:
            await asyncio.wait((reading, counting), return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not self._has_left:
                reading.result()
                raise BrokenPromiseError(f"{self.name}: nothing more to read")
            await counting
            await asyncio.wait((reading,), timeout=timeout_s(10))
            if reading.done():
                reading.result()
        finally:
            for task in (reading, counting):
                task.cancel()
            await asyncio.gather(reading, counting, return_exceptions=True)
            if self._ws is not None:
                self._ws.abort()

    def leave(self) -> None:
        self._is_leaving = True


def has_node() -> bool:
    return shutil.which("node") is not None and (_CONFORMANCE / "node_modules").is_dir()


class NodeBystander:
    """``tests/conformance/node/soak.mjs``, as a ``Bystander``."""

    def __init__(self, port: int, client: str) -> None:
        self.name = f"node {client}"
        self.answers_s: list[float] = []
        self.ticks = 0
        self._port = port
        self._client = client
        self._process: asyncio.subprocess.Process | None = None
        self._is_leaving = False

    async def run(self) -> None:
        pipe = asyncio.subprocess.PIPE
        process = self._process = await asyncio.create_subprocess_exec(
            "node", "node/soak.mjs", f"http://127.0.0.1:{self._port}", self._client,
            cwd=_CONFORMANCE, stdin=pipe, stdout=pipe,
        )  # fmt: skip
        if self._is_leaving:
            self.leave()
        assert process.stdout is not None
        try:
            output = await process.stdout.read()
            if await process.wait():
                raise BrokenPromiseError(f"{self.name}: ended with {process.returncode}")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        report = json.loads(output)
        self.answers_s, self.ticks = report["answersS"], report["ticks"]
        if report["problem"] is not None:
            raise BrokenPromiseError(f"{self.name}: {report['problem']}")

    def leave(self) -> None:
        self._is_leaving = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
