"""The client side of the model: one client with its wires, who tells the reference model of everything it does.

Every action goes the same way: the model says what must come of it, the bytes go over the wire, and what the answer
has to be is written down in ``asks`` until it has come.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.model.network import Network, Wire
from tests.model.reference import OK, Get, Port, Post, SessionModel, Status
from tests.model.wire_format import (
    Answer,
    Record,
    close_frame,
    frame,
    get_head,
    payload,
    post_head,
)
from transports import reasons
from transports.session import Session

#: The listener's patience with a body.
REQUEST_TIMEOUT_S = 20.0
TOO_LARGE, TOO_SLOW = (413, 3), (408, 3)


@dataclass(eq=False)
class Ask:
    """A request, and the answer that the model expects: None while it must not have been answered."""

    answer: Answer
    wire: Wire
    expected: Status | None
    may_wait: bool = False

    def check(self) -> None:
        answer = self.answer
        if self.wire.has_left or (self.may_wait and answer.status == 0 and isinstance(answer, Get) and answer.is_held):
            return
        if self.expected is None:
            assert answer.status == 0, f"answered too early with {answer.status} {answer.body!r}"
        else:
            assert (answer.status, answer.code) == self.expected, f"{answer.status} {answer.body!r}: {self.expected}"


@dataclass(eq=False)
class Upload:
    """A POST of which ``rest`` has not been sent."""

    ask: Ask
    post: Post
    rest: bytes
    packets: list[str | bytes] | None
    expires_at: float


class Client:
    """``session`` is the engine's, for what the application does with it; the client itself only knows its id.

    A prompt client reads, answers pings and opens the next response after every rule; others when a rule says so.
    """

    def __init__(self, network: Network, model: SessionModel, *, keeps_alive: bool, is_prompt: bool) -> None:
        self._network = network
        self.model = model
        self.session: Session | None = None
        self.session_id = ""
        self.pings = 0
        self.closings: list[str] = []  # what the application was told
        self.inbox: list[str | bytes] = []
        self.asks: list[Ask] = []
        self.gets: list[tuple[Get, Port, Wire]] = []
        self.uploads: list[Upload] = []
        self.is_prompt = is_prompt
        self._keeps_alive = keeps_alive
        self._idle: list[tuple[Answer, Wire]] = []

    # -- requests --------------------------------------------------------------------------------------

    def _wire(self) -> Wire:
        for answer, wire in self._idle:
            is_read = answer.ended_at <= wire.arrived and (
                not isinstance(answer, Get) or answer.read == len(answer.records)
            )
            if self._keeps_alive and answer.is_complete and answer.status != 101 and is_read and wire.is_usable:
                self._idle.remove((answer, wire))
                return wire
        return self._network.connect()

    def _ask(self, answer: Answer, expected: Status | None, *, may_wait: bool = False) -> Ask:
        ask = Ask(answer, self._wire(), expected, may_wait)
        ask.wire.expect(answer)
        self.asks.append(ask)
        self._idle.append((answer, ask.wire))
        return ask

    def connect(self, query: str) -> None:
        """The handshake, for the model's first port."""
        port = self.model.port
        assert port.get is not None
        ask = self._ask(port.get, None)
        self.gets.append((port.get, port, ask.wire))
        ask.wire.send(get_head(query, websocket=port.name == "websocket"))

    def decided(self, expected: Status) -> None:
        """The application has accepted or refused the handshake."""
        self.asks[0].expected = expected

    def open_get(self, name: str, ack: int | None = None, padding: int = 0) -> None:
        """A GET of long-polling or xhr-streaming."""
        get = Get(padding=padding)
        before = self.model.port_named(name)
        older = None if before is None else before.get
        expected = self.model.get(name, ack, get)
        ask = self._ask(get, expected, may_wait=expected == OK and name == "polling")
        if expected == OK:
            port = self.model.port if self.model.port.get is get else self.model.candidate
            assert port is not None
            if older is not None and port is before and port.is_counting:
                older.is_abandoned = True
            self.gets.append((get, port, ask.wire))
        query = f"transport={name}&sid={self.session_id}"
        query += "" if ack is None else f"&ack={ack}"
        ask.wire.send(get_head(query + (f"&padding={padding}" if padding else "")))

    def open_websocket(self) -> None:
        """A WebSocket for the session, to upgrade to."""
        get = Get()
        expected, port = self.model.websocket(get)
        ask = self._ask(get, expected)
        if expected[0] == 101:
            stray = Port("websocket", get)
            if port is None:
                self.model.dropped.append(stray)
            self.gets.append((get, port or stray, ask.wire))
        ask.wire.send(get_head(f"transport=websocket&sid={self.session_id}", websocket=True))

    def ask_for_unknown(self, query: str, expected: Status) -> None:
        self._ask(Answer(), expected).wire.send(get_head(query))

    # -- packets to the server -------------------------------------------------------------------------

    def begin_upload(
        self, name: str, packets: Sequence[str | bytes], broken: bytes | None = None, *, chunked: bool = False
    ) -> Upload | None:
        """The head of a POST. ``broken`` is a body that cannot be read, instead of ``packets``."""
        body = payload(packets) if broken is None else broken
        outcome = self.model.begin_post(name)
        ask = self._ask(Answer(), None)
        size = None if chunked and body else len(body)
        if size is None:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        head = post_head(f"transport={name}&sid={self.session_id}", size)
        if not isinstance(outcome, Post):
            ask.expected = outcome
            ask.wire.send(head + body)
            return None
        expires_at = self.model.now() + REQUEST_TIMEOUT_S
        upload = Upload(ask, outcome, body, list(packets) if broken is None else None, expires_at)
        self.uploads.append(upload)
        if not body:
            self._end_upload(upload)
        ask.wire.send(head)
        return upload

    def send_too_much(self, name: str, size: int) -> None:
        """The head of a POST that announces more than is allowed."""
        outcome = self.model.begin_post(name)
        if isinstance(outcome, Post):
            self.model.abandon_post(outcome)
            self.model.close(reasons.PARSE_ERROR)
            outcome = TOO_LARGE
        self._ask(Answer(), outcome).wire.send(post_head(f"transport={name}&sid={self.session_id}", size))

    def continue_upload(self, upload: Upload, size: int) -> None:
        """Some more of the body; the model is told before the last of it."""
        part, upload.rest = upload.rest[:size], upload.rest[size:]
        if not upload.rest and upload in self.uploads:
            self._end_upload(upload)
        upload.ask.wire.send(part)

    def _end_upload(self, upload: Upload) -> None:
        self.uploads.remove(upload)
        upload.ask.expected = self.model.end_post(upload.post, upload.packets)

    def cut_upload(self, upload: Upload, *, reset: bool) -> None:
        self.uploads.remove(upload)
        self.model.abandon_post(upload.post)
        upload.ask.wire.hang_up(reset=reset)

    def expire_uploads(self, now: float) -> None:
        """Bodies that have taken too long by ``now``."""
        for upload in [upload for upload in self.uploads if upload.expires_at <= now]:
            self.uploads.remove(upload)
            self.model.abandon_post(upload.post)
            upload.ask.expected = TOO_SLOW

    def post(self, name: str, packets: Sequence[str | bytes], segment: int = 1 << 20, *, chunked: bool = False) -> None:
        """A whole POST, in segments of that size."""
        upload = self.begin_upload(name, packets, chunked=chunked)
        while upload is not None and upload.rest:
            self.continue_upload(upload, segment)

    def send_frames(self, port: Port, packets: Sequence[str | bytes], segment: int = 1 << 20) -> None:
        """Packets on a WebSocket, in segments of that size."""
        for packet in packets:
            self.model.packet(port, packet)
        self.send_bytes(port, b"".join(map(frame, packets)), segment)

    def send_bytes(self, port: Port, data: bytes, segment: int = 1 << 20) -> None:
        wire = self.wire_of(port)
        for start in range(0, len(data), segment):
            wire.send(data[start : start + segment])

    def send_packets(self, port: Port, packets: Sequence[str | bytes], segment: int = 1 << 20) -> None:
        """By whatever way ``port`` takes them; a POST under way is finished first."""
        if port.name == "websocket":
            self.send_frames(port, packets, segment)
            return
        for upload in [upload for upload in self.uploads if upload.post.port is port]:
            self.continue_upload(upload, len(upload.rest))
        self.post(port.name, packets, segment)

    # -- ends ------------------------------------------------------------------------------------------

    def wire_of(self, port: Port) -> Wire:
        return next(wire for get, _, wire in self.gets if get is port.get)

    def cut(self, port: Port, *, reset: bool) -> None:
        """The response of ``port`` breaks; what the client had not read of it is lost, unless it is repeated."""
        get, wire = port.get, self.wire_of(port)
        assert get is not None
        self.model.cut(port, is_reset=reset or wire.backlog > 0)
        wire.hang_up(reset=reset)
        self._lose_rest(get, port)

    def _lose_rest(self, get: Get, port: Port) -> None:
        if not port.is_counting:
            for _, record in get.records[get.read :]:
                if _is_message(record):
                    self.model.ledger.lose(record)
            get.read = len(get.records)
        get.is_cut = True

    def close_websocket(self, port: Port) -> None:
        """The client's close frame, and its end of the connection."""
        self.model.cut(port)
        wire = self.wire_of(port)
        get = port.get
        assert get is not None
        wire.send(close_frame())
        wire.hang_up()
        self._lose_rest(get, port)

    # -- reading ---------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Show the model what has been written, and notice connections that the server has dropped."""
        for get, port, wire in self.gets:
            self.model.wrote(port, get)
            if wire.is_dead and not get.is_complete:
                get.is_cut = True

    def read(self) -> None:
        """Take what has arrived."""
        for get, port, wire in self.gets:
            if get.is_abandoned or wire.has_left:
                continue
            while get.read < len(get.records) and get.records[get.read][0] <= wire.arrived:
                record = get.records[get.read][1]
                get.read += 1
                port.counted += 1
                self._take(record)
            if wire.is_dead and get.read < len(get.records):
                self._lose_rest(get, port)

    def _take(self, record: Record) -> None:
        if _is_message(record):
            self.model.ledger.read(record)
        elif record == "2":
            self.pings += 1
        elif isinstance(record, str) and record.startswith("0"):
            self.session_id = json.loads(record[1:])["sid"]

    def has_read(self, port: Port) -> bool:
        """Whether the response that ``port`` opened last is over, and nothing of it is still to come."""
        get = port.get
        if get is None:
            return True
        return get.is_cut or (
            get.is_complete and get.read == len(get.records) and get.ended_at <= self.wire_of(port).arrived
        )

    def can_leave(self, port: Port) -> bool:
        """Whether the client may say ``5``: the old transport has said everything."""
        get = port.get
        return self.has_read(port) and not (port.is_counting and get is not None and get.is_cut)


def _is_message(record: Record) -> bool:
    return isinstance(record, bytes) or (isinstance(record, str) and record[0] == "4")
