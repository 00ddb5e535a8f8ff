"""What the bytes of the model's wires mean: requests and frames to the server, answers and records from it.

A *record* is one Engine.IO packet as a client sees it: ``str`` for text with its type character, ``bytes`` for a
binary message, ``CloseFrame`` for the end of a WebSocket.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

from tests.unit.transports.engine_doubles import KEY, client_frame


class CloseFrame(NamedTuple):
    code: int


Record = str | bytes | CloseFrame

SEPARATOR = "\x1e"


class Answer:
    """The answer to one request, as far as the server has written it.

    ``records``: with the number of bytes written on the wire when each was whole.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.records: list[tuple[int, Record]] = []
        self.is_complete = False
        self.ended_at = 0

    @property
    def code(self) -> int | None:
        """The number in the body of a refusal."""
        return json.loads(self.body)["code"] if self.status >= 400 else None


class AnswerDecoder:
    """Everything one connection writes: responses, the last of which may be a stream or a WebSocket."""

    def __init__(self) -> None:
        self._expected: list[Answer] = []
        self._buffer = b""
        self._consumed = 0
        self._text = ""  # of a stream: the record that has begun
        self._mode = "head"

    def expect(self, answer: Answer) -> None:
        self._expected.append(answer)

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._expected and self._step(self._expected[0]):
            pass
        assert self._expected or not self._buffer, f"nobody asked for {self._buffer!r}"

    def _take(self, size: int) -> bytes:
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        self._consumed += size
        return data

    def _step(self, answer: Answer) -> bool:
        if self._mode == "head":
            return self._head(answer)
        if self._mode == "body":
            return self._whole_body(answer)
        return self._chunk(answer) if self._mode == "chunks" else self._frame(answer)

    def _head(self, answer: Answer) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._take(end + 4).decode("latin-1").split("\r\n")
        answer.status = int(lines[0].split(" ")[1])
        answer.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        if answer.status == 101:
            self._mode = "frames"
        else:
            self._mode = "chunks" if answer.headers.get("transfer-encoding") == "chunked" else "body"
        return True

    def _whole_body(self, answer: Answer) -> bool:
        size = int(answer.headers["content-length"])
        if len(self._buffer) < size:
            return False
        answer.body = self._take(size)
        if answer.status == 200 and answer.body != b"ok":
            answer.records = [(self._consumed, _record(text)) for text in answer.body.decode().split(SEPARATOR)]
        self._ends(answer)
        return True

    def _chunk(self, answer: Answer) -> bool:
        line, newline, rest = self._buffer.partition(b"\r\n")
        if not newline or len(rest) < int(line, 16) + 2:
            return False
        size = int(line, 16)
        chunk = self._take(len(line) + 2 + size + 2)[len(line) + 2 : -2]
        if size == 0:
            assert self._text == "", f"a record was left unfinished: {self._text!r}"
            self._ends(answer)
            return True
        *whole, self._text = (self._text + chunk.decode()).split(SEPARATOR)
        answer.records += [(self._consumed, _record(text)) for text in whole]
        return True

    def _frame(self, answer: Answer) -> bool:
        if len(self._buffer) < 2:
            return False
        first, size = self._buffer[:2]
        head = 2
        if size == 126:
            size, head = int.from_bytes(self._buffer[2:4], "big"), 4
        assert size < 127 or head == 4, "the model sends no frames as long as that"
        if len(self._buffer) < head + size:
            return False
        payload = self._take(head + size)[head:]
        assert not answer.is_complete, "a frame follows the close frame"
        records: dict[int, Record] = {0x81: "", 0x82: payload, 0x88: CloseFrame(int.from_bytes(payload[:2], "big"))}
        assert first in records, f"frame {first:#x}"
        answer.records.append((self._consumed, payload.decode() if first == 0x81 else records[first]))
        if first == 0x88:
            answer.is_complete = True
            answer.ended_at = self._consumed
        return True

    def _ends(self, answer: Answer) -> None:
        answer.is_complete = True
        answer.ended_at = self._consumed
        self._expected.remove(answer)
        self._mode = "head"


def _record(text: str) -> Record:
    return base64.b64decode(text[1:], validate=True) if text.startswith("b") else text


def payload(packets: Sequence[str | bytes]) -> bytes:
    """The body of a POST."""
    texts = [packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode() for packet in packets]
    return SEPARATOR.join(texts).encode()


def frame(packet: str | bytes) -> bytes:
    """A packet as a WebSocket client sends it."""
    return client_frame(1 if isinstance(packet, str) else 2, packet)


def close_frame(code: int = 1000) -> bytes:
    return client_frame(8, code.to_bytes(2, "big"))


def get_head(query: str, *, websocket: bool = False) -> bytes:
    lines = [f"GET /engine.io/?EIO=4&{query} HTTP/1.1", "Host: example.org"]
    if websocket:
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"]
    return "\r\n".join([*lines, "", ""]).encode()


def post_head(query: str, size: int | None) -> bytes:
    """Head of a POST of ``size`` bytes; chunked where it is None."""
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return f"POST /engine.io/?EIO=4&{query} HTTP/1.1\r\nHost: example.org\r\n{framing}\r\n\r\n".encode()
