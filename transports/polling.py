"""The long-polling transport: the response of a waiting GET carries what there is, as one payload.

Also JSONP, for pages that may only load scripts: the payload becomes the argument of a call.
Spec: Engine.IO v4, "HTTP long-polling"; the JSONP form is that of the reference server.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from . import catalogue, reasons
from .errors import RequestRefused
from .outbound import MESSAGE_OVERHEAD_BYTES, OutboundMessage, Run, extend
from .ports import HttpExchange
from .request import Headers, HttpRequest

if TYPE_CHECKING:
    from .session import Session

NOOP: Final = OutboundMessage(b"6")
CLOSE: Final = OutboundMessage(b"1")

#: python-engineio's clients refuse a payload of more packets than this, on any server.
PYTHON_CLIENT_PACKETS: Final = 16
_ANY_NUMBER: Final = 1 << 30
#: A longer payload is cut behind the message that reaches so many bytes, as buffers count them; the rest goes with the
#: next GET. A payload is joined and compressed in one go: 3 MiB of text kept everybody else for 44 ms.
PAYLOAD_BYTES: Final = 512 * 1024
_ZERO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")

TEXT_HEADERS: Final[Headers] = [
    ("Content-Type", "text/plain; charset=UTF-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]
_GZIP_HEADERS: Final[Headers] = [*TEXT_HEADERS, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
_SCRIPT_HEADERS: Final[Headers] = [
    ("Content-Type", "text/javascript; charset=UTF-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]


def packets_per_payload(user_agent: str) -> int:
    """How many packets the client reads in one payload.

    Browsers and Node's XMLHttpRequest read any number. Everybody else may be python-engineio.
    """
    return _ANY_NUMBER if user_agent.startswith(("Mozilla/", "node")) else PYTHON_CLIENT_PACKETS


def jsonp_index(request: HttpRequest) -> int | None:
    """The number of the callback (parameter ``j``), or None where the request is not JSONP.

    Raises: RequestRefused for anything but a few ASCII digits: it becomes part of a script.
    """
    index = request.parameter("j")
    if index is None:
        return None
    if not (index.isascii() and index.isdigit() and len(index) <= 9):
        raise RequestRefused(catalogue.BAD_PARAMETER, name="j", allowed="a number of at most 9 digits")
    return int(index)


def jsonp_script(index: int, payload: bytes) -> bytes:
    """The payload as a call of the page's callback; escaped so that it cannot end the script early."""
    literal = json.dumps(payload.decode()).replace("<", "\\u003c").replace("/", "\\u002f")
    return f"___eio[{index}]({literal});".encode()


class PollingPort:
    """Answers one GET at a time; writable while one waits."""

    __slots__ = ("_compression_threshold", "_exchange", "_packets_per_payload", "_session", "_unsent", "writable")

    name = "polling"

    def __init__(self, session: Session, user_agent: str, compression_threshold: int | None) -> None:
        self._session: Session | None = session
        self._packets_per_payload = packets_per_payload(user_agent)
        self._compression_threshold = compression_threshold
        self._exchange: HttpExchange | None = None
        self._unsent: HttpExchange | None = None  # was answered, but the client had not taken all of it
        self.writable = False

    def open(self, exchange: HttpExchange) -> None:
        """A GET has come.

        Raises: RequestRefused where one waits already.
        """
        if self._exchange is not None:
            raise RequestRefused(catalogue.OVERLAPPING_GET)
        jsonp_index(exchange.request)
        if self._unsent is not None:
            # Whoever asks again without having taken the last answer will not take it: it must not stay in memory.
            self._unsent.drop_unsent()
            self._unsent = None
        self._exchange = exchange
        self.writable = True
        exchange.lost = self._lost

    def _lost(self) -> None:
        self._exchange = None
        self.writable = False
        if self._session is not None:
            self._session.port_lost(self, reasons.TRANSPORT_CLOSE)

    def _answer(self, run: Run) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        self.writable = False
        exchange.lost = None
        respond_with_payload(exchange, run, self._compression_threshold)
        if exchange.is_unsent():
            self._unsent = exchange

    # -- port ------------------------------------------------------------------------------------------

    def write(self, run: Run) -> Run | None:
        head, rest = run.split(self._packets_per_payload)
        if head.nbytes - MESSAGE_OVERHEAD_BYTES * head.packet_count > PAYLOAD_BYTES:
            head, left = head.take(PAYLOAD_BYTES)
            if left is not None:
                rest = left if rest is None else Run.of([*left.messages(), *rest.messages()])
        self._answer(head)
        return rest

    def buffered_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """The session answers no POST meanwhile."""

    def resume_reading(self) -> None:
        """As ``pause_reading``: nothing to do."""

    def buffered_in(self) -> int:
        return 0

    def deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> None:
        """Never asked for."""

    def release(self) -> None:
        if self.writable:
            self._answer(NOOP)

    def detach(self) -> None:
        self.release()
        self._session = None

    def close(self, run: Run | None, *, code: int, reason: str, by_client: bool) -> Run | None:
        # The reference server ends the poll with a noop where the client itself said good-bye.
        last = extend(run, NOOP if by_client else CLOSE)
        if not self.writable:
            return None if by_client else last
        return self.part(last)

    def part(self, run: Run) -> Run | None:
        return self.write(run)

    def abort(self) -> None:
        self.close(None, code=0, reason="", by_client=False)
        self._session = None


def respond_with_payload(exchange: HttpExchange, run: Run, compression_threshold: int | None) -> None:
    """Answer a GET of long-polling, as script or compressed where the request asks for it."""
    index = jsonp_index(exchange.request)
    payload = run.payload()
    if index is not None:
        exchange.respond(200, _SCRIPT_HEADERS, jsonp_script(index, payload))
    elif compression_threshold is not None and len(payload) >= compression_threshold and _takes_gzip(exchange.request):
        exchange.respond(200, _GZIP_HEADERS, run.compressed_payload)
    else:
        exchange.respond(200, TEXT_HEADERS, payload)


def _takes_gzip(request: HttpRequest) -> bool:
    """Spec: RFC 9110, section 12.5.3; a weight of zero is a refusal."""
    for entry in request.headers.get("accept-encoding", "").split(","):
        coding, _, weight = entry.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return not _ZERO_WEIGHT.fullmatch(weight.replace(" ", "").lower())
    return False
