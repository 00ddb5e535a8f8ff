"""Envelopes on a stream of bytes, with the topics that they are for.

::

    length of what follows (4 bytes) | topics (2) | for each: length (2), topic | envelope
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..envelope import MAX_ENVELOPE_BYTES

HEAD_BYTES: Final = 4
#: An envelope and the topics before it.
MAX_FRAME_BYTES: Final = MAX_ENVELOPE_BYTES + 1024 * 1024


class FrameError(Exception):
    """What came is no frame of ours: nothing behind it can be read."""


def encode_frame(topics: Iterable[str], envelope: bytes) -> bytes:
    """topics: none for what goes to a node. Raises: FrameError for topics of a megabyte in all."""
    names = [topic.encode() for topic in topics]
    head = b"".join([len(names).to_bytes(2, "big"), *[len(name).to_bytes(2, "big") + name for name in names]])
    length = len(head) + len(envelope)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes")
    return b"%b%b%b" % (length.to_bytes(HEAD_BYTES, "big"), head, envelope)


class FrameReader:
    """Give it what comes; it gives back ``(topics, envelope)``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: Nothing is whole before so many bytes are there.
        self._needed = HEAD_BYTES

    def feed(self, data: bytes) -> list[tuple[list[str], bytes]]:
        """The frames that are whole. Raises: FrameError."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames = []
        start, size = 0, len(data)
        self._needed = HEAD_BYTES
        while start + HEAD_BYTES <= size:
            length = int.from_bytes(data[start : start + HEAD_BYTES], "big")
            if not 2 <= length <= MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes")
            end = start + HEAD_BYTES + length
            if end > size:
                self._needed = HEAD_BYTES + length
                break
            frames.append(_open(data[start + HEAD_BYTES : end]))
            start = end
        if start < size:
            self._buffer += data[start:]
        return frames


def _open(frame: bytes) -> tuple[list[str], bytes]:
    topics = []
    at = 2
    for _ in range(int.from_bytes(frame[:2], "big")):
        end = at + 2 + int.from_bytes(frame[at : at + 2], "big")
        if end > len(frame):
            raise FrameError("a topic longer than its frame")
        try:
            topics.append(frame[at + 2 : end].decode())
        except UnicodeDecodeError:
            raise FrameError("a topic that is not UTF-8") from None
        at = end
    return topics, frame[at:]
