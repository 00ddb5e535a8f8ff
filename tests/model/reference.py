"""What a session is, said once more and plainly: the model that the engine is compared with.

The model is told of everything before the engine is, says what must come of it, and is shown afterwards what the
engine wrote. It predicts exactly: the answer to each request, the state and the transport, when and why a session
ends, what the application hears. It leaves to the engine how records are spread over responses, and checks that
each is the next one, that repetitions repeat, and that nothing waits while the client could take it.

All times of the test are multiples of half a second, as all deadlines are, so that the timing wheel's ticks fall on
them and a deadline is met when it is due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model.wire_format import Answer, CloseFrame, Record
from transports import reasons
from transports.outbound import MESSAGE_OVERHEAD_BYTES

#: Long enough that a cut stream is given up before the heartbeat finds it.
PING_INTERVAL_S = 15.0
PING_TIMEOUT_S = 10.0
UPGRADE_TIMEOUT_S = 10.0
RESUME_S = 15.0
GOODBYE_S = 10.0
STREAM_MAX_S = 20.0
STREAM_MAX_BYTES = 4096
MAX_BUFFERED_BYTES = 16 * 1024
MAX_PAYLOAD_BYTES = 2000
#: Packets in one response of long-polling to a client that names no browser.
POLL_PACKETS = 16

RANKS = {"polling": 0, "xhr-streaming": 1, "websocket": 2}
OK, UPGRADED = (200, None), (101, None)
UNKNOWN_SESSION, BAD_REQUEST, FORBIDDEN = (400, 1), (400, 3), (401, 4)
Status = tuple[int, int | None]


@dataclass(eq=False)
class Get(Answer):
    """A GET, or WebSocket, of a session: ``Answer`` is what the server has written to it."""

    padding: int = 0
    is_cut: bool = False
    seen: int = 0  # records that the model has judged
    read: int = 0  # records that the client has read
    is_abandoned: bool = False  # the client has given it up for the next, which repeats what was not read

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def is_held(self) -> bool:
        """Whether the server may write to it."""
        return not self.is_complete and not self.is_cut


@dataclass(eq=False)
class Port:
    """One transport of a session, over all its responses."""

    name: str
    get: Get | None = None
    is_probed: bool = False
    has_answered_probe: bool = False
    is_counting: bool = False
    acknowledged: int = 0
    history: list[Record] = field(default_factory=list)  # records, as an acknowledgement counts them
    to_repeat: list[Record] = field(default_factory=list)
    counted: int = 0  # records that the client has read
    resume_by: float | None = None
    is_released: bool = False  # the response that was opened last is ended for an upgrade
    is_refused: bool = False  # what was sent on it was no probe

    @property
    def is_held(self) -> bool:
        return self.get is not None and self.get.is_held


@dataclass(eq=False)
class Post:
    """A POST whose body is on its way."""

    port: Port
    is_over: bool = False


@dataclass
class Ledger:
    """Messages to the client. Each is written once, in order; the client reads them in order but for the lost."""

    sent: list[Record] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    written: int = 0
    reached: int = 0  # the client has read, or lost, those before this one
    lost: int = 0

    def send(self, text: str | None, attachments: list[bytes]) -> None:
        overhead = MESSAGE_OVERHEAD_BYTES
        packets: list[str | bytes] = [*attachments] if text is None else [text, *attachments]
        for packet in packets:
            self.sent.append(packet)
            self.weights.append(len(packet) + overhead)
            overhead = 0

    def write(self, record: Record) -> None:
        assert self.written < len(self.sent), f"{record!r} was never sent, or is written twice"
        assert record == self.sent[self.written], f"{record!r} is written where {self.sent[self.written]!r} is due"
        self.written += 1

    def read(self, record: Record) -> None:
        assert self.reached < self.written
        assert record == self.sent[self.reached], f"read {record!r} where {self.sent[self.reached]!r} is next"
        self.reached += 1

    def lose(self, record: Record) -> None:
        self.read(record)
        self.lost += 1

    @property
    def unwritten(self) -> int:
        return len(self.sent) - self.written


#: What a client that can be told of the end is told. The others have gone, or take nothing.
_LAST_RECORDS = {reasons.SERVER_DISCONNECT: "1", reasons.CLIENT_DISCONNECT: "6", reasons.PARSE_ERROR: "1"}


class SessionModel:
    """``state`` is ``opening``, ``open`` (``candidate`` says whether it upgrades), ``leaving`` (ended, but the client
    is to be told when it comes) or ``closed``.
    """

    def __init__(self, clock: Callable[[], float], transport: str, ack: int | None, get: Get) -> None:
        self._clock = clock
        self.state = "opening"
        self.reason = ""
        self.port = Port(transport, get, is_counting=ack is not None and transport == "xhr-streaming")
        self.candidate: Port | None = None
        self.dropped: list[Port] = []
        self.ledger = Ledger()
        self.heard: list[str | bytes] = []  # what the application must have received
        self.is_decided = False  # the application has accepted or refused it
        self.is_accepted = False
        self.posts: list[Post] = []
        self.pings_due = 0
        self.pings_written = 0
        self.awaits_pong = False
        self.ping_due = 0.0
        self.upgrade_by = 0.0
        self.goodbye_by = 0.0
        self.has_opened = False  # the open packet was written
        #: Responses that were open when the session ended, and the record that must be their last.
        self.farewells: list[tuple[Get, Record | None]] = []
        self._at: float | None = None  # while time passes: the deadline that is being met

    def now(self) -> float:
        return self._clock() if self._at is None else self._at

    @property
    def is_open(self) -> bool:
        return self.state == "open"

    @property
    def is_releasing(self) -> bool:
        return self.candidate is not None and self.candidate.is_probed

    def port_named(self, name: str) -> Port | None:
        if self.state in ("open", "leaving"):
            for port in (self.port, self.candidate):
                if port is not None and port.name == name:
                    return port
        return None

    # -- beginning and end -----------------------------------------------------------------------------

    def accept(self) -> Status:
        """The application says yes; the client may be gone, or the server have closed it, meanwhile."""
        self.is_decided = self.is_accepted = True
        if self.state == "closed":
            return FORBIDDEN
        self.state = "open"
        self.ping_due = self.now() + PING_INTERVAL_S
        return UPGRADED if self.port.name == "websocket" else OK

    def refuse(self) -> Status:
        self.state = "closed"
        self.is_decided = True
        return FORBIDDEN

    def close(self, reason: str) -> None:
        """The session ends. A client without an open response is waited for where the server is the one to go."""
        if self.state not in ("opening", "open"):
            return
        self.drop_candidate()
        packets = self.ledger.unwritten + self.pings_due - self.pings_written + 1
        can_be_told = self.port.is_held and (self.port.name != "polling" or packets <= POLL_PACKETS)
        waits = reason == reasons.SERVER_DISCONNECT and self.port.name != "websocket" and not can_be_told
        if self.port.get is not None and self.is_open and can_be_told and reason in _LAST_RECORDS:
            last = None if self.port.name == "websocket" else _LAST_RECORDS[reason]
            self.farewells.append((self.port.get, last))
        self.state = "leaving" if waits and self.state == "open" else "closed"
        self.goodbye_by = self.now() + GOODBYE_S
        self.reason = reason

    def drop_candidate(self) -> None:
        if self.candidate is not None:
            self.dropped.append(self.candidate)
            self.candidate = None

    def fail(self, port: Port) -> None:
        """The client broke the protocol on ``port``."""
        if port is self.candidate:
            self.drop_candidate()
        elif port is self.port and self.is_open:
            self.close(reasons.PARSE_ERROR)

    # -- time ------------------------------------------------------------------------------------------

    def elapse(self, until: float) -> None:
        """Everything that is due up to ``until``, in its order."""
        while (due := self._next_due()) is not None and due <= until:
            self._at = due
            if self.state == "leaving":
                self.state = "closed"
            elif self.candidate is not None and due >= self.upgrade_by:
                self.drop_candidate()
            elif self.awaits_pong and due >= self.ping_due + PING_TIMEOUT_S:
                self.close(reasons.PING_TIMEOUT)
            elif not self.awaits_pong and due >= self.ping_due:
                self.awaits_pong = True
                self.pings_due += 1
            else:
                self.close(reasons.TRANSPORT_CLOSE)
        self._at = None

    def _next_due(self) -> float | None:
        if self.state == "leaving":
            return self.goodbye_by
        if not self.is_open:
            return None
        due = [self.ping_due + PING_TIMEOUT_S if self.awaits_pong else self.ping_due]
        if self.candidate is not None:
            due.append(self.upgrade_by)
        if self.port.resume_by is not None:
            due.append(self.port.resume_by)
        return min(due)

    # -- requests --------------------------------------------------------------------------------------

    def get(self, name: str, ack: int | None, get: Get) -> Status:
        """A GET that opens a response of long-polling or xhr-streaming."""
        if self.state == "closed":
            return UNKNOWN_SESSION
        port = self.port_named(name)
        if port is None:
            if name == "polling" or not self._may_upgrade(name):
                return BAD_REQUEST
            port = self._begin_upgrade(name)
        if not self._fits(port, ack):
            self.fail(port)
            return BAD_REQUEST
        if name == "xhr-streaming" and ack is not None:
            port.is_counting = True
            port.acknowledged = ack
            port.to_repeat = port.history[ack:]
            del port.history[ack:]
        port.get = get
        port.resume_by = None
        port.is_released = port is self.port and self.is_releasing
        if self.state == "leaving":
            packets = self.ledger.unwritten + self.pings_due - self.pings_written + 1
            if name != "polling" or packets <= POLL_PACKETS:
                self.state = "closed"
        return OK

    def _fits(self, port: Port, ack: int | None) -> bool:
        if port.name == "polling":
            return not port.is_held
        if ack is None:
            return not port.is_held and not port.is_counting
        return (port.is_counting or not port.history) and port.acknowledged <= ack <= len(port.history)

    def _may_upgrade(self, name: str) -> bool:
        return self.is_open and self.candidate is None and RANKS[name] > RANKS[self.port.name]

    def _begin_upgrade(self, name: str) -> Port:
        self.candidate = Port(name)
        self.upgrade_by = self.now() + UPGRADE_TIMEOUT_S
        return self.candidate

    def websocket(self, get: Get) -> tuple[Status, Port | None]:
        """A WebSocket for the session; without a port it is accepted and closed at once."""
        if self.state == "closed":
            return UNKNOWN_SESSION, None
        if not self._may_upgrade("websocket"):
            return UPGRADED, None
        port = self._begin_upgrade("websocket")
        port.get = get
        return UPGRADED, port

    def begin_post(self, name: str) -> Status | Post:
        """The head of a POST: a refusal, or that the body is waited for."""
        if self.state != "open":
            return UNKNOWN_SESSION
        port = self.port_named(name)
        if port is None or name == "websocket":
            return BAD_REQUEST
        if any(post.port is port for post in self.posts):
            self.close(reasons.PARSE_ERROR)
            return BAD_REQUEST
        post = Post(port)
        self.posts.append(post)
        return post

    def end_post(self, post: Post, packets: list[str | bytes] | None) -> Status:
        """The body has come; ``packets`` is None where it cannot be read."""
        self.abandon_post(post)
        if self.port_named(post.port.name) is not post.port:
            return BAD_REQUEST if self.is_open else UNKNOWN_SESSION
        if packets is None:
            self.fail(post.port)
            return BAD_REQUEST
        for packet in packets:
            self.packet(post.port, packet)
        return BAD_REQUEST if self.reason == reasons.PARSE_ERROR or post.port.is_refused else OK

    def abandon_post(self, post: Post) -> None:
        post.is_over = True
        if post in self.posts:
            self.posts.remove(post)

    def cut(self, port: Port, *, is_reset: bool = False) -> None:
        """The connection that carries ``port`` breaks while the server holds it."""
        if not port.is_held:
            return
        if port.is_counting and self.state != "opening":
            port.resume_by = self.now() + RESUME_S
        elif port is self.candidate:
            self.drop_candidate()
        elif port is self.port:
            is_error = is_reset and port.name == "websocket" and self.is_open
            self.close(reasons.TRANSPORT_ERROR if is_error else reasons.TRANSPORT_CLOSE)

    # -- packets from the client -----------------------------------------------------------------------

    def packet(self, port: Port, packet: str | bytes) -> None:
        kind = "4" if isinstance(packet, bytes) else packet[:1]
        if port is self.candidate:
            if packet == "2probe" and not port.is_probed:
                port.is_probed = self.port.is_released = True
                if not port.is_held:  # a counting client finds the answer in its next response
                    port.history.append("3probe")
                    port.has_answered_probe = True
            elif kind == "5" and port.is_probed:
                self.dropped.append(self.port)
                self.port, self.candidate = port, None
            else:
                port.is_refused = True
                self.drop_candidate()
        elif port is self.port and self.is_open:
            if kind == "4":
                self._message(packet if isinstance(packet, bytes) else packet[1:])
            elif kind == "3":
                if self.awaits_pong:
                    self.awaits_pong = False
                    self.ping_due = max(self.ping_due + PING_INTERVAL_S, self.now())
            elif kind == "1":
                self.close(reasons.CLIENT_DISCONNECT)
            elif kind != "6":
                self.fail(port)

    def _message(self, data: str | bytes) -> None:
        """The application of the test answers some messages, and ends the session on others."""
        self.heard.append(data)
        if isinstance(data, str) and data.startswith("echo"):
            self.ledger.send("4" + data, [])
        elif isinstance(data, str) and data.startswith("close"):
            self.close(reasons.SERVER_DISCONNECT)

    # -- what the engine wrote -------------------------------------------------------------------------

    def wrote(self, port: Port, get: Get) -> None:
        """Judge the records that have been written to ``get`` since the last time."""
        for place in range(get.seen, len(get.records)):
            record = get.records[place][1]
            is_last = get.is_complete and place == len(get.records) - 1
            port.history.append(record)
            if place == 0 and get.padding >= 2:
                assert record == "6" + " " * (get.padding - 2)
            elif port.to_repeat:
                due = port.to_repeat.pop(0)
                assert record == due, f"{record!r} where {due!r} was to be repeated"
            elif isinstance(record, bytes) or (isinstance(record, str) and record[0] == "4"):
                assert port is self.port, f"{record!r} went to a transport that is not in use"
                self.ledger.write(record)
            else:
                self._control(port, record, is_last)
        get.seen = len(get.records)

    def _control(self, port: Port, record: Record, is_last: bool) -> None:
        is_over = self.state != "open" or port in self.dropped
        if isinstance(record, CloseFrame) or record == "1":
            assert is_over, f"{record!r} on a transport in use"
            assert is_last, f"something follows {record!r}"
        elif record == "2":
            self.pings_written += 1
            assert self.pings_written <= self.pings_due, "a ping too early"
            assert port is self.port
        elif record == "3probe":
            assert port.is_probed
            assert not port.has_answered_probe
            port.has_answered_probe = True
        elif record == "6":
            assert is_last
            assert is_over or port.is_released, "a noop without need"
        else:
            assert isinstance(record, str)
            assert record.startswith("0{"), record
            assert not self.has_opened, "a second open packet"
            self.has_opened = True

    # -- what has to be true at rest -------------------------------------------------------------------

    def check_at_rest(self, gets: list[Get], *, is_jammed: bool) -> None:
        """No turn of the loop is outstanding. ``gets``: all of this session, cut and complete ones too; ``is_jammed``:
        the client's side of the port in use takes nothing.
        """
        if not self.is_decided:
            return  # the handshake is answered when the application has spoken
        held = [get for get in gets if get.is_held]
        if self.state == "closed":
            assert held == [], "a response was left open when the session closed"
        for get, last in self.farewells:
            told = get.records[-1][1] if get.records else None
            assert get.is_cut or (get.is_complete and (isinstance(told, CloseFrame) if last is None else told == last))
        allowed = [port.get for port in (self.port, self.candidate) if port is not None]
        assert all(get in allowed for get in held), "a response that is not in use is still open"
        if self.candidate is not None and self.candidate.is_probed and self.candidate.is_held:
            assert self.candidate.has_answered_probe, "the probe was not answered"
        if self.is_open and self.port.is_held and not is_jammed:
            assert self.port.to_repeat == []
            assert self.ledger.unwritten == 0, "messages wait while the client could take them"
            assert self.pings_written == self.pings_due, "a ping waits while the client could take it"
            assert self.port.name == "websocket" or not self.is_releasing, "the client cannot pause"
