"""The other workers of a host, as one worker sees them: what goes to each, what comes from each.

A connection is one-way: a worker writes to those it has dialled and reads from those that dialled it, so whoever writes
decides alone when to begin again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from ..envelope import Envelope
from .base import BrokerUnavailableError, Node
from .frames import FrameError, FrameReader

#: What the kernel and the transport hold of what was written; the rest waits in the outbox, where it is counted.
_WRITE_BUFFER_BYTES: Final = 64 * 1024
_CREDENTIALS: Final = struct.Struct("3i")


def is_own_user(transport: asyncio.BaseTransport) -> bool:
    """Whether the process at the other end is ours. Where the system does not tell, the mode of the folder must."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    # uvloop's stand-in for a socket does not give this option.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connected:
        _, uid, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return bool(uid == os.geteuid())


class Outgoing(asyncio.Protocol):
    """A connection that is written to, and the bytes that wait for it. All frames of a turn leave in one write."""

    def __init__(self, max_bytes: int, on_lost: Callable[[Outgoing], object]) -> None:
        self.max_bytes = max_bytes
        #: Frames that were put and never written.
        self.dropped = 0
        #: It was ended because it did not read.
        self.is_cut = False
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_paused = False
        self._is_scheduled = False
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._room.set()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        self.abort()  # nobody has anything to say on it

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flush()

    # -- what goes

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    @property
    def nbytes(self) -> int:
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._waiting_bytes + unsent

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def has_room(self, nbytes: int) -> bool:
        """Whether so much can be put without overtaking anybody who waits."""
        return not self._turn.locked() and self.nbytes + nbytes <= self.max_bytes

    def put(self, frame: bytes) -> bool:
        """False where the connection has ended."""
        if self._transport is None:
            return False
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if not self._is_scheduled and not self._is_paused:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)
        return True

    async def put_when_room(self, frame: bytes, timeout_s: float) -> bool:
        """Wait for those who waited before, and for room. Raises: BrokerUnavailableError after the time."""
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                while self.is_open and self.nbytes + len(frame) > self.max_bytes:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            self.dropped += 1
            self.is_cut = True
            self.abort()
            raise BrokerUnavailableError("a worker does not read what it is sent; it was cut off") from None
        return self.put(frame)

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._transport is None or self._is_paused or not self._waiting:
            return
        frames, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        self._room.set()

    def close(self) -> None:
        self._is_paused = False
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Incoming(asyncio.Protocol):
    """A connection that is read from. ``peer_id``: who it is, once it has said so."""

    def __init__(
        self,
        on_frame: Callable[[Incoming, list[str], bytes], object],
        on_lost: Callable[[Incoming], object],
        on_refused: Callable[[str], object],
    ) -> None:
        self.peer_id: str | None = None
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not is_own_user(transport):
            self._on_refused("a process of another user wanted to be a worker")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except FrameError as error:
            self._on_refused(f"a worker sent no frames: {error}")
            self.abort()
            return
        for topics, envelope in frames:
            if self._transport is None:
                return
            self._on_frame(self, topics, envelope)

    def abort(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


@dataclass(eq=False, slots=True)
class Peer:
    """Another worker. It counts as a node while both connections stand and it answers."""

    id: str
    node: Node | None = None
    outgoing: Outgoing | None = None
    incoming: Incoming | None = None
    #: What it has subscribed to.
    interest: set[str] = field(default_factory=set)
    #: It has told all that it has subscribed to.
    is_introduced: bool = False
    dialling: asyncio.Task[Any] | None = None
    #: When it was last heard (loop time), and the ping that it has not answered yet.
    heard_at: float = 0.0
    #: When what it sends stopped coming (loop time), if it did.
    lost_at: float | None = None

    @property
    def is_joined(self) -> bool:
        return self.is_introduced and self.outgoing is not None and self.outgoing.is_open


@dataclass(slots=True)
class Ping:
    """Asked of several peers at once. ``waiting``: those who have not answered, and have not gone."""

    waiting: set[str]
    sent_at: float


def too_long(path: str) -> bool:
    """Whether the system takes no Unix-domain socket of that name."""
    return len(os.fsencode(path)) > 107


def is_sender(incoming: Incoming, envelope: Envelope) -> bool:
    """Whether the envelope is of the one who has introduced itself."""
    return incoming.peer_id is None or incoming.peer_id == envelope.sender
