"""WebSocket frames: however they are cut, the same messages and the same error."""

from __future__ import annotations

from tests.unit.transports.engine_doubles import client_frame
from transports.errors import RemoteProtocolError
from transports.protocol import frames
from transports.protocol.frames import AnyMessage, FrameParser
from transports.refusals import CloseCode

from .choices import Choices, pieces

LIMITS = (1 << 20, 125, 1000, 70_000, 1)
_OPCODES = {frames.TEXT, frames.BINARY, frames.CLOSE, frames.PING, frames.PONG}


def parse(parts: list[bytes], limit: int) -> tuple[list[AnyMessage], str | None, int]:
    """The messages, and the error's text and close code."""
    parser = FrameParser(limit)
    messages: list[AnyMessage] = []
    for part in parts:
        had_failed = parser.error is not None
        fresh = parser.feed(part)
        assert not (had_failed and fresh), "a parser that has failed must read no more"
        messages += fresh
    error = parser.error
    return messages, None if error is None else error.message, 0 if error is None else error.close_code


def check(data: bytes) -> None:
    choices = Choices(data)
    limit = choices.pick(LIMITS)
    cuts = choices.cuts()
    stream = choices.rest()
    whole = parse([stream], limit)
    cut = parse(pieces(stream, cuts), limit)
    assert cut == whole, (cut, whole)
    for index, (opcode, content) in enumerate(whole[0]):
        assert opcode in _OPCODES, opcode
        assert isinstance(content, str) == (opcode == frames.TEXT)
        assert opcode != frames.CLOSE or index == len(whole[0]) - 1, "a message behind a close frame"
        encoded = content.encode() if isinstance(content, str) else content
        assert len(encoded) <= (125 if opcode >= frames.CLOSE else limit)
        again = parse([client_frame(opcode, content)], limit)
        assert again == ([(opcode, content)], None, 0) or len(encoded) > limit, again
        if opcode == frames.CLOSE:
            check_close(encoded)


def check_close(body: bytes) -> None:
    try:
        code, reason = frames.decode_close(body)
    except RemoteProtocolError as error:
        assert error.close_code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA)
        return
    if code != 1005:
        encoded = frames.encode_close(code, reason)
        assert frames.decode_close(encoded[2:]) == (code, reason)
