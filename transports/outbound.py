"""Messages on their way out: encoded once, shared by everyone they go to.

``OutboundMessage`` is one message in all its wire forms. ``Run`` is a sequence of messages that waits to be
written, in the usual case a single one: a persistent list, so that all sessions which were sent the same messages
since their last write hold the same ``Run``, and its joined bytes are built once for all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

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


class Run:
    """Messages in the order of their sending, one or more. Immutable; ``extend(run, message)`` is a longer one.

    ``nbytes`` is what they count for in buffers, ``packet_count`` how many packets they are.
    """

    __slots__ = ("_forms", "nbytes", "packet_count")

    #: The messages before the last one, and that.
    parent: Run | None
    message: OutboundMessage
    nbytes: int
    packet_count: int
    #: Wire forms that have been asked for, by the function that builds them, or by the kind of compression.
    _forms: dict[Callable[[Run], bytes] | DeflateForm, bytes] | None

    def _form(self, build: Callable[[Run], bytes], kind: DeflateForm | None = None) -> bytes:
        key = build if kind is None else kind
        forms = self._forms
        if forms is None:
            forms = self._forms = {}
        form = forms.get(key)
        if form is None:
            form = forms[key] = build(self)
        return form

    @staticmethod
    def of(messages: Iterable[OutboundMessage]) -> Run | None:
        run: Run | None = None
        for message in messages:
            run = extend(run, message)
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
        """WebSocket frames of the whole run. Servers do not mask, so they are the same for every client."""
        return self._form(_join_frames)

    def deflated_frames(self, form: DeflateForm) -> bytes:
        """``frames`` for connections on which compression was agreed, the same for all of the same ``form``."""
        return self._form(lambda run: b"".join([message.deflated_frames(form) for message in run.messages()]), form)

    @property
    def records(self) -> bytes:
        """Text packets, each ended by the separator: what xhr-streaming and long-polling carry."""
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
        return extend(Run.of(messages[: count - 1]), messages[count - 1]), Run.of(messages[count:])

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
        return extend(Run.of(first[:-1]), first[-1]), Run.of(last)


class OutboundMessage(Run):
    """One message, and the run of it alone: a text packet with its type character, and the binary packets that
    belong to it.

    A binary message without text has ``text`` None. Each wire form is built when the first session needs it.
    """

    __slots__ = ("_frames", "attachments", "text")

    parent = None

    def __init__(self, text: bytes | None, attachments: Sequence[bytes] = ()) -> None:
        self.text = text
        self.attachments = attachments
        self._frames: bytes | None = None
        self._forms = None
        if text is None:
            self.nbytes = MESSAGE_OVERHEAD_BYTES
            self.packet_count = 0
        else:
            self.nbytes = MESSAGE_OVERHEAD_BYTES + len(text)
            self.packet_count = 1
        if attachments:
            self.nbytes += sum(map(len, attachments))
            self.packet_count += len(attachments)

    @property
    def message(self) -> OutboundMessage:  # type: ignore[override]
        return self

    @property
    def frames(self) -> bytes:
        frames = self._frames
        if frames is None:
            text = self.text
            frames = b"" if text is None else encode_frame(TEXT, text)
            if self.attachments:
                frames += b"".join([encode_frame(BINARY, attachment) for attachment in self.attachments])
            self._frames = frames
        return frames

    def deflated_frames(self, form: DeflateForm) -> bytes:
        return self._form(partial(_deflate_frames, form=form), form)

    @property
    def records(self) -> bytes:
        return self._form(_as_records)

    def waiting(self, session: Any) -> OutboundMessage:
        """What waits in its place for a session that cannot take it now, where it is conflated."""
        return self

    def divide(self, packet_count: int) -> tuple[OutboundMessage, OutboundMessage]:
        """The first ``packet_count`` packets (more than none, fewer than all), and the rest."""
        taken = packet_count if self.text is None else packet_count - 1
        return (
            OutboundMessage(self.text, self.attachments[:taken]),
            OutboundMessage(None, self.attachments[taken:]),
        )


class LongerRun(Run):
    """``message`` after the messages of ``parent``."""

    __slots__ = ("message", "parent")

    def __init__(self, parent: Run, message: OutboundMessage) -> None:
        self.parent = parent
        self.message = message
        self.nbytes = parent.nbytes + message.nbytes
        self.packet_count = parent.packet_count + message.packet_count
        self._forms = None


def extend(run: Run | None, message: OutboundMessage) -> Run:
    """The run, with ``message`` behind it."""
    return message if run is None else LongerRun(run, message)


def _deflate_frames(run: Run, form: DeflateForm) -> bytes:
    message = run.message
    packets = [] if message.text is None else [(TEXT, message.text)]
    packets += [(BINARY, attachment) for attachment in message.attachments]
    if max(len(data) for _, data in packets) < form.threshold:
        return message.frames
    return b"".join([_deflated_frame(opcode, data, form) for opcode, data in packets])


def _as_records(run: Run) -> bytes:
    message = run.message
    packets = [] if message.text is None else [message.text]
    packets += [encode_binary(attachment) for attachment in message.attachments]
    packets.append(b"")
    return SEPARATOR_BYTE.join(packets)


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
