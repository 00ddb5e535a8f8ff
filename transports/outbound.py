"""Messages on their way out: encoded once, shared by everyone they go to.

``OutboundMessage`` is one message in all its wire forms. ``Run`` is a sequence of messages that waits to be
written: a persistent list, so that all sessions which were sent the same messages since their last write hold
the same ``Run``, and its joined bytes are built once for all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from .protocol.frames import BINARY, COMPRESSED, TEXT, encode_frame
from .protocol.http1 import encode_chunk
from .protocol.packets import SEPARATOR_BYTE, encode_binary
from .protocol.permessage_deflate import deflate

#: What a waiting message costs beside its bytes: the objects that carry it.
MESSAGE_OVERHEAD_BYTES: Final = 256


class DeflateForm(NamedTuple):
    """How WebSocket messages are compressed; those shorter than ``threshold`` bytes are not."""

    window_bits: int
    threshold: int


class OutboundMessage:
    """One message: a text packet with its type character, and the binary packets that belong to it.

    A binary message without text has ``text`` None. Each wire form is built when the first session needs it.
    ``nbytes`` is what the message counts for in buffers.
    """

    __slots__ = ("_deflated", "_frames", "_records", "attachments", "nbytes", "packet_count", "text")

    def __init__(self, text: bytes | None, attachments: Sequence[bytes] = ()) -> None:
        self.text = text
        self.attachments = attachments
        self.nbytes = MESSAGE_OVERHEAD_BYTES if text is None else MESSAGE_OVERHEAD_BYTES + len(text)
        self.packet_count = 0 if text is None else 1
        if attachments:
            self.nbytes += sum(map(len, attachments))
            self.packet_count += len(attachments)
        self._frames: bytes | None = None
        self._records: bytes | None = None
        self._deflated: dict[DeflateForm, bytes] | None = None

    @property
    def frames(self) -> bytes:
        """WebSocket frames. Servers do not mask, so they are the same for every client."""
        frames = self._frames
        if frames is None:
            text = self.text
            frames = b"" if text is None else encode_frame(TEXT, text)
            if self.attachments:
                frames += b"".join([encode_frame(BINARY, attachment) for attachment in self.attachments])
            self._frames = frames
        return frames

    def deflated_frames(self, form: DeflateForm) -> bytes:
        """``frames`` for connections on which compression was agreed, the same for all of the same ``form``."""
        deflated = self._deflated
        if deflated is None:
            deflated = self._deflated = {}
        frames = deflated.get(form)
        if frames is None:
            packets = [] if self.text is None else [(TEXT, self.text)]
            packets += [(BINARY, attachment) for attachment in self.attachments]
            if max(len(data) for _, data in packets) < form.threshold:
                frames = self.frames
            else:
                frames = b"".join([_deflated_frame(opcode, data, form) for opcode, data in packets])
            deflated[form] = frames
        return frames

    @property
    def records(self) -> bytes:
        """Text packets, each ended by the separator: what xhr-streaming and long-polling carry."""
        records = self._records
        if records is None:
            packets = [] if self.text is None else [self.text]
            packets += [encode_binary(attachment) for attachment in self.attachments]
            packets.append(b"")
            records = self._records = SEPARATOR_BYTE.join(packets)
        return records

    def divide(self, packet_count: int) -> tuple[OutboundMessage, OutboundMessage]:
        """The first ``packet_count`` packets (more than none, fewer than all), and the rest."""
        taken = packet_count if self.text is None else packet_count - 1
        return (
            OutboundMessage(self.text, self.attachments[:taken]),
            OutboundMessage(None, self.attachments[taken:]),
        )


class Run:
    """Messages in the order of their sending. Immutable; ``Run(run, message)`` is a longer one.

    ``nbytes`` and ``packet_count`` are totals of the whole run.
    """

    __slots__ = ("_forms", "message", "nbytes", "packet_count", "parent")

    def __init__(self, parent: Run | None, message: OutboundMessage) -> None:
        self.parent = parent
        self.message = message
        if parent is None:
            self.nbytes = message.nbytes
            self.packet_count = message.packet_count
        else:
            self.nbytes = parent.nbytes + message.nbytes
            self.packet_count = parent.packet_count + message.packet_count
        #: Wire forms that have been asked for, by the function that builds them, or by the kind of compression.
        self._forms: dict[Callable[[Run], bytes] | DeflateForm, bytes] | None = None

    def _form(self, build: Callable[[Run], bytes], kind: DeflateForm | None = None) -> bytes:
        key = build if kind is None else kind
        forms = self._forms
        if forms is None:
            forms = self._forms = {}
        form = forms.get(key)
        if form is None:
            form = forms[key] = build(self)
        return form

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
        return self._form(_join_frames)

    def deflated_frames(self, form: DeflateForm) -> bytes:
        """``frames``, compressed message by message."""
        if self.parent is None:
            return self.message.deflated_frames(form)
        return self._form(lambda run: b"".join([message.deflated_frames(form) for message in run.messages()]), form)

    @property
    def records(self) -> bytes:
        """Streaming records of the whole run."""
        if self.parent is None:
            return self.message.records
        return self._form(_join_records)

    @property
    def chunk(self) -> bytes:
        """``records`` as one chunk of a chunked response."""
        return self._form(_as_chunk)

    def payload(self) -> bytes:
        """Long-polling body of the whole run: packets with the separator between them."""
        return self.records[:-1]

    @property
    def compressed_payload(self) -> bytes:
        """``payload`` with gzip, at the level that costs least."""
        return self._form(_compress)

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
        messages = self.messages()
        taken = 0
        left = packet_count
        while left and messages[taken].packet_count <= left:
            left -= messages[taken].packet_count
            taken += 1
        first, last = messages[:taken], messages[taken:]
        if left:
            head, tail = last[0].divide(left)
            first.append(head)
            last[0] = tail
        return Run(Run.of(first[:-1]), first[-1]), Run.of(last)


def _deflated_frame(opcode: int, data: bytes, form: DeflateForm) -> bytes:
    if len(data) >= form.threshold:
        packed = deflate(data, form.window_bits)
        if len(packed) < len(data):
            return encode_frame(opcode | COMPRESSED, packed)
    return encode_frame(opcode, data)


def _join_frames(run: Run) -> bytes:
    return b"".join([message.frames for message in run.messages()])


def _join_records(run: Run) -> bytes:
    return b"".join([message.records for message in run.messages()])


def _as_chunk(run: Run) -> bytes:
    return encode_chunk(run.records)


def _compress(run: Run) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(run.payload()) + packer.flush()
