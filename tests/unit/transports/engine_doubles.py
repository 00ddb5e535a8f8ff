"""In-memory stand-ins: a loop whose clock the test moves, connections, exchanges and ports that record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from transports import catalogue
from transports.errors import RefusedError, RequestRefused
from transports.outbound import OutboundMessage, Run, extend
from transports.protocol.frames import FrameParser
from transports.request import Headers, HttpRequest

MASK = b"\x01\x02\x03\x04"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
WEBSOCKET_HEADERS = {
    "host": "example.org",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": KEY,
}


class _NoSelector:
    def select(self, timeout: float | None) -> list[Any]:
        return []


class FakeLoop(asyncio.BaseEventLoop):
    """Runs callbacks and tasks when told to; time passes only in ``advance``."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._now = 1000.0
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self._now

    def _process_events(self, events: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def turn(self, count: int = 1) -> None:
        """Run what is ready."""
        for _ in range(count):
            self._run_once()

    def settle(self) -> None:
        """Run until nothing is ready."""
        while self._ready:
            self._run_once()

    def block(self, seconds: float) -> None:
        """Time passes, but nobody runs."""
        self._now += seconds

    def has_timers(self) -> bool:
        """Whether something is still to happen when time passes."""
        return any(not handle.cancelled() for handle in self._scheduled)

    def advance(self, seconds: float) -> None:
        """Time passes, and every timer fires when it is due."""
        target = self._now + seconds
        self.settle()
        while True:
            due = min((handle.when() for handle in self._scheduled if not handle.cancelled()), default=None)
            if due is None or due > target:
                break
            self._now = max(self._now, due)
            self._run_once()
            self.settle()
        self._now = target
        self.settle()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's result; time passes while it waits for timers."""
        task = self.create_task(coroutine)
        for _ in range(10_000):
            if task.done():
                return task.result()
            if self._ready:
                self._run_once()
            else:
                due = min((handle.when() for handle in self._scheduled if not handle.cancelled()), default=None)
                if due is None:
                    raise AssertionError("the coroutine waits for something that cannot happen")
                self._now = max(self._now, due)
                self._run_once()
        raise AssertionError("the coroutine does not end")


@contextmanager
def running_loop() -> Iterator[FakeLoop]:
    """A loop whose clock the test moves; asyncio takes it for the one that runs."""
    loop = FakeLoop()
    asyncio.events._set_running_loop(loop)
    try:
        yield loop
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.settle()
    finally:
        asyncio.events._set_running_loop(None)
        loop.close()


class FakeTransport(asyncio.Transport):
    """A connection. ``buffered`` is what the kernel has not taken; ``jam`` lets it take nothing any more."""

    def __init__(self, high_water: int = 64 * 1024) -> None:
        super().__init__()
        self.written = bytearray()
        self.buffered = 0
        self.is_jammed = False
        self.is_paused = False
        self.is_closed = False
        self.is_aborted = False
        self.is_reading_paused = False
        self.has_eof = False
        self.high_water = high_water
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        assert not self.is_aborted
        assert not self.has_eof
        self.written += data
        if self.is_jammed:
            self.buffered += len(data)
            if self.buffered > self.high_water and not self.is_paused:
                self.is_paused = True
                self.protocol.pause_writing()

    def unjam(self) -> None:
        self.is_jammed = False
        self.buffered = 0
        if self.is_paused:
            self.is_paused = False
            self.protocol.resume_writing()

    def take(self) -> bytes:
        """What was written since the last call."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is not None and self.buffered > high and not self.is_paused:
            self.is_paused = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_eof = True

    def pause_reading(self) -> None:
        assert not self.is_closing()
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert not self.is_closing()
        self.is_reading_paused = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def lose(self, exc: Exception | None = None) -> None:
        """The peer is gone."""
        self.is_closed = True
        self.protocol.connection_lost(exc)


class FakeExchange:
    """An HTTP request in memory."""

    def __init__(self, request: HttpRequest, body: bytes | None = b"", unread: bytes = b"") -> None:
        self.request = request
        self.extra_headers: Headers = []
        self.lost: Callable[[], None] | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.answers = 0
        self.transport: FakeTransport | None = None
        self.is_gone = False
        #: What the peer has not taken of earlier answers on the same connection.
        self.unsent_before = 0
        self._unread = unread
        self._request_body = body
        self._waiting: tuple[int, Callable[[bytes], None], Callable[[RefusedError], None]] | None = None

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        if self.is_gone:
            return
        self.answers += 1
        self.status = status
        self.headers = {name.lower(): value for name, value in [*headers, *self.extra_headers]}
        self.body = body

    def is_unsent(self) -> bool:
        return False

    def drop_unsent(self) -> None:
        raise AssertionError("nothing is unsent")

    def cut(self) -> None:
        raise AssertionError("nothing is relayed")

    def read_body(
        self,
        limit: int,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        self._waiting = (limit, received, refused)
        #: Told how much more of the body has come.
        self.arriving = arriving
        if self._request_body is not None:
            self.arrive(self._request_body)

    def arrive(self, body: bytes) -> None:
        """The body has come."""
        assert self._waiting is not None
        limit, received, refused = self._waiting
        self._waiting = None
        if len(body) > limit:
            refused(RequestRefused(catalogue.BODY_TOO_LARGE, limit=limit))
        else:
            received(body)

    def leave(self) -> None:
        """The peer goes away."""
        self.is_gone = True
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        if self.is_gone:
            raise ConnectionResetError("the peer is gone")
        self.transport = FakeTransport()
        self.transport.protocol = protocol
        self.transport.buffered = self.unsent_before
        self.transport.is_jammed = bool(self.unsent_before)
        self.answers += 1
        return self.transport, self._unread

    @property
    def error(self) -> tuple[int, int]:
        """Status and code of a refusal."""
        return self.status, json.loads(self.body)["code"]

    @property
    def packets(self) -> list[str]:
        """Of a long-polling answer."""
        assert self.status == 200, (self.status, self.body)
        return self.body.decode().split("\x1e")


class FakePort:
    """A port that records what it is asked to do."""

    def __init__(self, name: str = "polling", writable: bool = True) -> None:
        self.name = name
        self.writable = writable
        self.written: list[bytes] = []
        self.buffered = 0
        self.wants_deadline: float | None = None
        self.deadlines: list[float] = []
        self.calls: list[str] = []
        self.closed_with: tuple[bytes, int, str, bool] | None = None
        self.can_say_goodbye = True

    def write(self, run: Run) -> Run | None:
        assert self.writable
        for message in run.messages():
            self.written += [] if message.text is None else [message.text]
            self.written += message.attachments
        return None

    def buffered_bytes(self) -> int:
        return self.buffered

    def buffered_in(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def deadline(self) -> float | None:
        return self.wants_deadline

    def on_deadline(self, now: float) -> None:
        self.deadlines.append(now)

    def release(self) -> None:
        self.calls.append("release")

    def detach(self) -> None:
        self.calls.append("detach")

    def close(self, run: Run | None, *, code: int, reason: str, by_client: bool) -> Run | None:
        self.calls.append("close")
        if not self.can_say_goodbye:
            return None if by_client else extend(run, OutboundMessage(b"1"))
        self.closed_with = (b"" if run is None else run.payload(), code, reason, by_client)
        return None

    def part(self, run: Run) -> Run | None:
        self.calls.append("part")
        return self.write(run)

    def abort(self) -> None:
        self.calls.append("abort")


def text(data: str) -> OutboundMessage:
    """A message of one text packet, type character included."""
    return OutboundMessage(data.encode())


def binary(data: bytes) -> OutboundMessage:
    """A binary message."""
    return OutboundMessage(None, (data,))


def client_frame(opcode: int, data: bytes | str = b"", *, fin: bool = True, mask: bytes = MASK, rsv: int = 0) -> bytes:
    """A masked frame, as clients send it."""
    payload = data.encode() if isinstance(data, str) else data
    size = len(payload)
    head = bytes(((0x80 if fin else 0) | rsv | opcode,))
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def server_frames(data: bytes) -> list[tuple[int, str | bytes]]:
    """Opcode and data of each frame that the server wrote (behind an HTTP head, if any)."""
    if data.startswith(b"HTTP/1.1"):
        data = data.partition(b"\r\n\r\n")[2]
    found: list[tuple[int, str | bytes]] = []
    while data:
        size = data[1]
        head = 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        # Closing frames end a parser's work, so each frame gets its own.
        parser = FrameParser(1 << 30, takes_compressed=True)
        fin, rsv, opcode = bool(data[0] & 0x80), data[0] & 0x70, data[0] & 0x0F
        found += [
            (kind, content)
            for kind, content in parser.feed(client_frame(opcode, data[head : head + size], fin=fin, rsv=rsv))
        ]
        assert parser.error is None
        data = data[head + size :]
    return found


def stream_records(data: bytes) -> list[str]:
    """The records of a chunked response, its head and last chunk left out."""
    if data.startswith(b"HTTP/1.1"):
        data = data.partition(b"\r\n\r\n")[2]
    body = b""
    while data:
        size_text, _, data = data.partition(b"\r\n")
        size = int(size_text, 16)
        body += data[:size]
        data = data[size + 2 :]
    assert not body or body.endswith(b"\x1e")
    return body.decode().split("\x1e")[:-1]


def request(
    query: str = "",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> HttpRequest:
    """A request to the engine's path."""
    return HttpRequest(
        method, "/engine.io/?" + query, {"host": "example.org"} if headers is None else headers, **options
    )
