"""Messages on their way out: encoded once, shared by everyone they go to.

``OutboundMessage`` is one message in all its wire forms. ``Run`` is a sequence of messages that waits to be
written: a persistent list, so that all sessions which were sent the same messages since their last write hold
the same ``Run``, and its joined bytes are built once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .protocol.frames import BINARY, TEXT, encode_frame
from .protocol.http1 import encode_chunk
from .protocol.packets import SEPARATOR_BYTE, encode_binary

#: What a waiting message costs beside its bytes: the objects that carry it.
MESSAGE_OVERHEAD_BYTES: Final = 256


class OutboundPacket:
    """One Engine.IO packet: text with its type character, or a binary message."""

    __slots__ = ("data", "is_binary")

    def __init__(self, data: bytes, is_binary: bool = False) -> None:
        self.data = data
        self.is_binary = is_binary

    def as_frame(self) -> bytes:
        return encode_frame(BINARY if self.is_binary else TEXT, self.data)

    def as_text(self) -> bytes:
        """As long-polling and streaming carry it, without separator."""
        return encode_binary(self.data) if self.is_binary else self.data


class OutboundMessage:
    """Packets that belong together (a Socket.IO packet and its attachments), oldest first.

    Each wire form is built when the first session needs it. ``nbytes`` is what the message counts for in
    buffers.
    """

    __slots__ = ("_frames", "_records", "nbytes", "packets")

    def __init__(self, packets: Sequence[OutboundPacket]) -> None:
        self.packets = packets
        self.nbytes = MESSAGE_OVERHEAD_BYTES + sum(len(packet.data) for packet in packets)
        self._frames: bytes | None = None
        self._records: bytes | None = None

    @classmethod
    def of_text(cls, encoded: bytes) -> OutboundMessage:
        """A message of one text packet, type character included."""
        return cls((OutboundPacket(encoded),))

    @property
    def frames(self) -> bytes:
        """WebSocket frames. Servers do not mask, so they are the same for every client."""
        frames = self._frames
        if frames is None:
            frames = self._frames = b"".join([packet.as_frame() for packet in self.packets])
        return frames

    @property
    def records(self) -> bytes:
        """Text packets, each ended by the separator: xhr-streaming's records."""
        records = self._records
        if records is None:
            records = self._records = b"".join(
                [part for packet in self.packets for part in (packet.as_text(), SEPARATOR_BYTE)]
            )
        return records


class Run:
    """Messages in the order of their sending. Immutable; ``Run(run, message)`` is a longer one.

    ``nbytes`` and ``packet_count`` are totals of the whole run.
    """

    __slots__ = ("_chunk", "_frames", "_records", "message", "nbytes", "packet_count", "parent")

    def __init__(self, parent: Run | None, message: OutboundMessage) -> None:
        self.parent = parent
        self.message = message
        if parent is None:
            self.nbytes = message.nbytes
            self.packet_count = len(message.packets)
        else:
            self.nbytes = parent.nbytes + message.nbytes
            self.packet_count = parent.packet_count + len(message.packets)
        self._chunk: bytes | None = None
        self._frames: bytes | None = None
        self._records: bytes | None = None

    @classmethod
    def of(cls, messages: Iterable[OutboundMessage]) -> Run | None:
        run: Run | None = None
        for message in messages:
            run = cls(run, message)
        return run

    def messages(self) -> list[OutboundMessage]:
        """Oldest first."""
        found = []
        run: Run | None = self
        while run is not None:
            found.append(run.message)
            run = run.parent
        found.reverse()
        return found

    @property
    def frames(self) -> bytes:
        """WebSocket frames of the whole run."""
        if self.parent is None:
            return self.message.frames
        frames = self._frames
        if frames is None:
            frames = self._frames = b"".join([message.frames for message in self.messages()])
        return frames

    @property
    def records(self) -> bytes:
        """Streaming records of the whole run."""
        if self.parent is None:
            return self.message.records
        records = self._records
        if records is None:
            records = self._records = b"".join([message.records for message in self.messages()])
        return records

    @property
    def chunk(self) -> bytes:
        """``records`` as one chunk of a chunked response."""
        chunk = self._chunk
        if chunk is None:
            chunk = self._chunk = encode_chunk(self.records)
        return chunk

    def payload(self) -> bytes:
        """Long-polling body of the whole run: packets with the separator between them."""
        return self.records[:-1]

    def take(self, nbytes: int) -> tuple[Run, Run | None]:
        """Whole messages until ``nbytes`` are reached (at least one), and the rest."""
        if self.parent is None:
            return self, None
        messages = self.messages()
        count = total = 0
        for message in messages:
            if total >= nbytes and count:
                break
            total += message.nbytes
            count += 1
        return Run(Run.of(messages[: count - 1]), messages[count - 1]), Run.of(messages[count:])

    def split(self, packet_count: int) -> tuple[Run, Run | None]:
        """The first ``packet_count`` packets (at least one), and the rest.

        A message may be divided between its packets: readers join attachments over several payloads.
        """
        if self.packet_count <= packet_count:
            return self, None
        taken: list[OutboundMessage] = []
        left = packet_count
        messages = self.messages()
        for index, message in enumerate(messages):
            size = len(message.packets)
            if size > left:
                rest = [OutboundMessage(message.packets[left:]), *messages[index + 1 :]] if left else messages[index:]
                if left:
                    taken.append(OutboundMessage(message.packets[:left]))
                break
            taken.append(message)
            left -= size
        head = Run.of(taken)
        if head is None:
            raise ValueError("packet_count must be at least 1")
        return head, Run.of(rest)
