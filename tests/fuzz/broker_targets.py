"""What nodes and Redis send: envelopes, frames of the bus, RESP2."""

from __future__ import annotations

from typing import Any

from gateway.brokers.frames import FrameError, FrameReader
from gateway.brokers.resp import Oversized, RespError, RespProtocolError, RespReader
from gateway.envelope import Envelope, EnvelopeError, Message

from .choices import Choices, pieces


def check_envelope(data: bytes) -> None:
    """What can be read can be written, and read again as the same."""
    for kind in (Envelope, Message):
        try:
            found = kind.decode(data)  # type: ignore[attr-defined]
        except EnvelopeError:
            continue
        encoded = found.encode()
        assert kind.decode(encoded).encode() == encoded  # type: ignore[attr-defined]


def check_bus(data: bytes) -> None:
    """Cut anywhere: the same frames, the same refusal."""
    choices = Choices(data)
    cuts = choices.cuts()
    stream = choices.rest()
    assert _frames([stream]) == _frames(pieces(stream, cuts))


def _frames(parts: list[bytes]) -> tuple[list[Any], bool]:
    reader = FrameReader()
    frames: list[Any] = []
    for part in parts:
        try:
            frames += reader.feed(part)
        except FrameError:
            return [], True
    return frames, False


def check_resp(data: bytes) -> None:
    """Cut anywhere: the same values, the same refusal; no string longer than allowed is kept."""
    choices = Choices(data)
    cuts = choices.cuts()
    limit = choices.pick((8, 64, 1 << 20))
    stream = choices.rest()
    whole, cut = _values([stream], limit), _values(pieces(stream, cuts), limit)
    assert whole == cut
    for value in whole[0]:
        _check_lengths(value, limit)


def _values(parts: list[bytes], limit: int) -> tuple[list[Any], bool]:
    reader = RespReader(limit)
    values: list[Any] = []
    for part in parts:
        try:
            values += reader.feed(part)
        except RespProtocolError:
            return [], True
    return [_plain(value) for value in values], False


def _plain(value: Any) -> Any:
    """A form that can be compared."""
    if isinstance(value, Oversized):
        return "oversized", value.nbytes
    if isinstance(value, RespError):
        return "error", str(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _check_lengths(value: Any, limit: int) -> None:
    if isinstance(value, list):
        for item in value:
            _check_lengths(item, limit)
    elif isinstance(value, tuple) and value[0] == "oversized":
        assert value[1] > limit
