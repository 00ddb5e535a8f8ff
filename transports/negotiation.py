"""Which request is for which session and transport: every request to the engine's path ends up here.

Spec: Engine.IO v4, "Transports" and "Handshake"; the refusals' codes are the reference server's.
"""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

import orjson

from . import catalogue, reasons
from .errors import RefusedError, RemoteProtocolError, RequestRefused
from .outbound import Run, extend
from .polling import PollingPort, jsonp_index
from .ports import HttpExchange, Port
from .protocol import websocket_handshake
from .protocol.lifecycle import CLOSING, State
from .protocol.permessage_deflate import DeflateAgreement, agree
from .refusals import RETRY_AFTER_S, CloseCode, Ends, Retry
from .request import Headers, HttpRequest
from .session import Session
from .session_ids import owner_of
from .websocket import WebSocketPort
from .xhr_streaming import XhrStreamingPort

if TYPE_CHECKING:
    from .engine import Engine

_JSON: Final[Headers] = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
_TEXT: Final[Headers] = [("Content-Type", "text/plain"), ("Cache-Control", "no-store")]
#: Connections that may wait for their peers to leave when one more is accepted only to be closed. They count for no
#: session and for no address, so beyond it such a request is refused as HTTP.
MAX_LINGERING: Final = 1000
#: In a form; one that has more is none of a client's.
_MAX_FORM_FIELDS: Final = 4


def refuse(exchange: HttpExchange, refused: RefusedError) -> None:
    """Answer with the refusal, which its caller has counted."""
    refusal = refused.refusal
    message = refused.message
    if isinstance(refused, RemoteProtocolError):  # as a sentence: these are also the reasons of WebSocket closings
        message = message[:1].upper() + message[1:]
    body = orjson.dumps({"code": refusal.code, "message": message})
    headers = list(_JSON)
    if refusal is catalogue.WEBSOCKET_VERSION:
        headers.append(("Sec-WebSocket-Version", "13"))
    if refusal.retry is Retry.LATER:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    exchange.respond(refusal.status or 400, headers, body)


class Negotiator:
    """Sends each exchange where it belongs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def handle(self, exchange: HttpExchange) -> None:
        """Answer the exchange, now or later. Never raises for what the peer sent."""
        try:
            self._route(exchange)
        except RequestRefused as refused:
            self.refuse(exchange, refused)
        except ConnectionError:
            pass  # the peer left while its request was being looked at; its port has been told

    def refuse(self, exchange: HttpExchange, refused: RefusedError) -> None:
        """Count the refusal, and answer with it."""
        self._engine.note_refusal(refused.refusal, refused.message, exchange.request)
        refuse(exchange, refused)

    def _route(self, exchange: HttpExchange) -> None:
        request = exchange.request
        self._engine.cors.apply(exchange)
        if request.method == "OPTIONS":
            exchange.respond(204, [], b"")
            return
        transport = request.parameter("transport")
        if transport not in self._engine.transports:
            raise RequestRefused(catalogue.UNKNOWN_TRANSPORT, allowed=", ".join(self._engine.transports))
        if request.parameter("EIO") != "4":
            raise RequestRefused(catalogue.UNSUPPORTED_VERSION)
        session_id = request.parameter("sid")
        if request.method == "GET":
            if transport != "websocket" and websocket_handshake.asks_for_websocket(request):
                raise RequestRefused(catalogue.UPGRADE_ELSEWHERE, transport=transport)
            if session_id is None:
                self._handshake(exchange, transport)
            else:
                session = self._session(exchange, session_id)
                if session is not None:
                    self._get(exchange, session, transport)
        elif request.method == "POST" and session_id is not None:
            session = self._session(exchange, session_id)
            if session is not None:
                self._post(exchange, session, transport)
        else:
            raise RequestRefused(catalogue.BAD_METHOD)

    def _session(self, exchange: HttpExchange, session_id: str) -> Session | None:
        """None where the session is another worker's, which answers."""
        session = self._engine.sockets.get(session_id)
        if session is None and self._forward(exchange, session_id):
            return None
        if session is None or session.state == State.OPENING or session.expire(self._engine.now()):
            raise RequestRefused(catalogue.UNKNOWN_SESSION)
        return session

    def _forward(self, exchange: HttpExchange, session_id: str) -> bool:
        engine = self._engine
        if engine.forwarder is None or exchange.request.is_relayed:
            return False
        owner = owner_of(session_id)
        if owner is None or owner == engine.worker_id:
            return False
        return engine.forwarder.forward(exchange, owner, self.refuse)

    # -- handshake -------------------------------------------------------------------------------------

    def _handshake(self, exchange: HttpExchange, transport: str) -> None:
        engine = self._engine
        request = exchange.request
        key = websocket_handshake.check(request) if transport == "websocket" else b""
        if transport == "polling":
            jsonp_index(request)
        engine.bind_loop()
        if engine.is_draining:
            forwarder = None if request.is_relayed else engine.forwarder
            if forwarder is not None and forwarder.pass_on(exchange, self.refuse):
                return
            raise RequestRefused(catalogue.DRAINING)
        session = engine.create_session(request)
        answer = engine.ask_application(session)
        if answer is None or not isawaitable(answer):
            self._finish_handshake(exchange, session, transport, key, answer)
            return
        exchange.lost = partial(session.close, reasons.TRANSPORT_CLOSE)
        engine.await_application(
            answer, lambda refusal: self._finish_handshake(exchange, session, transport, key, refusal)
        )

    def _finish_handshake(
        self, exchange: HttpExchange, session: Session, transport: str, key: bytes, refusal: Any
    ) -> None:
        """The application has accepted the session, or refused it with this text."""
        exchange.lost = None
        if refusal is not None:
            self._engine.forget(session)
            self.refuse(exchange, RequestRefused(catalogue.HANDSHAKE_REFUSED, text=refusal))
            return
        session.is_accepted = True
        if session.state >= CLOSING:
            # The client left, or the server drained, while the application was thinking.
            self._engine.session_closes(session)
            self.refuse(exchange, RequestRefused(catalogue.LEFT_EARLY))
            return
        try:
            self._open(exchange, session, transport, key)
        except RequestRefused as refused:
            session.close(reasons.PARSE_ERROR)
            self.refuse(exchange, refused)
        except ConnectionError:
            session.close(reasons.TRANSPORT_CLOSE)

    def _open(self, exchange: HttpExchange, session: Session, transport: str, key: bytes) -> None:
        engine = self._engine
        cookie = engine.handshake_cookie(session.id)
        if cookie is not None:
            exchange.extra_headers = [*exchange.extra_headers, ("Set-Cookie", cookie)]
        opening: Run = engine.open_packet(session, transport)
        if session.run is not None:
            for message in session.run.messages():
                opening = extend(opening, message)
        if transport == "websocket":
            deflate = self._deflate(exchange.request)
            port = WebSocketPort(session, engine.max_payload_bytes, deflate)
            connection, unread = exchange.take_over(port)
            session.run = None
            session.open(port)
            port.open(connection, _accept(key, exchange.extra_headers, deflate), opening, unread)
        elif transport == "polling":
            polling = self._polling_port(session, exchange.request)
            session.run = opening
            session.open(polling)
            polling.open(exchange)
            session.flush()
        else:
            stream = XhrStreamingPort(session, engine.stream_max_bytes, engine.stream_max_s)
            stream.open(exchange, engine.now())
            session.run = opening
            session.open(stream)
            session.flush()

    def _deflate(self, request: HttpRequest) -> DeflateAgreement | None:
        if not self._engine.websocket_compression:
            return None
        return agree(request.headers.get("sec-websocket-extensions", ""))

    def _polling_port(self, session: Session, request: HttpRequest) -> PollingPort:
        threshold = self._engine.compression_threshold if self._engine.http_compression else None
        return PollingPort(session, request.headers.get("user-agent", ""), threshold)

    # -- requests of a session -------------------------------------------------------------------------

    def _get(self, exchange: HttpExchange, session: Session, transport: str) -> None:
        if transport == "websocket":
            self._upgrade_to_websocket(exchange, session)
            return
        port = session.http_port(transport)
        if port is None:
            if transport != "xhr-streaming":
                raise _mismatch(session)
            port = XhrStreamingPort(session, self._engine.stream_max_bytes, self._engine.stream_max_s)
            session.begin_upgrade(port)
        if session.state == State.CLOSING and session.port is not port:
            raise RequestRefused(catalogue.UNKNOWN_SESSION)
        try:
            self._open_response(exchange, session, port)
        except RequestRefused as refused:
            if port is not session.port:
                session.drop_candidate(refused)
            elif refused.refusal.ends is Ends.SESSION:
                session.close(reasons.PARSE_ERROR)
            raise
        except ConnectionError:
            session.port_lost(port, reasons.TRANSPORT_CLOSE)

    def _open_response(self, exchange: HttpExchange, session: Session, port: Port) -> None:
        is_current = port is session.port
        if isinstance(port, PollingPort):
            port.open(exchange)
        elif isinstance(port, XhrStreamingPort):
            port.open(exchange, self._engine.now())
        if session.state == State.CLOSING:
            session.say_goodbye()
        elif is_current:
            session.port_resumed(port)
            if session.is_releasing:
                port.release()
            session.arm()

    def _upgrade_to_websocket(self, exchange: HttpExchange, session: Session) -> None:
        key = websocket_handshake.check(exchange.request)
        deflate = self._deflate(exchange.request)
        port = WebSocketPort(session, self._engine.max_payload_bytes, deflate)
        refusal: RequestRefused | None = None
        try:
            session.begin_upgrade(port)
        except RequestRefused as refused:
            if len(self._engine.lingering) >= MAX_LINGERING:
                raise
            # The session is known, so the connection is accepted and closed (Engine.IO v4, "WebSocket").
            self._engine.note_refusal(refused.refusal, refused.message, exchange.request, session.id)
            refusal = refused
        try:
            connection, unread = exchange.take_over(port)
        except ConnectionError:
            session.port_lost(port, reasons.TRANSPORT_CLOSE)
            return
        head = _accept(key, exchange.extra_headers, deflate)
        port.open(connection, head, None, b"" if refusal is not None else unread)
        if refusal is not None:
            code = refusal.refusal.close_code or CloseCode.POLICY_VIOLATION
            port.close(None, code=code, reason=refusal.message, by_client=False)

    def _post(self, exchange: HttpExchange, session: Session, transport: str) -> None:
        port = session.http_port(transport)
        if session.state >= State.CLOSING:
            raise RequestRefused(catalogue.UNKNOWN_SESSION)
        if port is None or isinstance(port, WebSocketPort):
            raise _mismatch(session)
        is_jsonp = jsonp_index(exchange.request) is not None

        def shed() -> None:
            exchange.lost = None
            self.refuse(exchange, RequestRefused(catalogue.UNKNOWN_SESSION))

        intake = session.intake
        intake.begin_post(port, shed)
        exchange.lost = partial(intake.end_post, port)

        def received(body: bytes) -> None:
            intake.end_post(port)
            exchange.lost = None
            if session.http_port(transport) is not port:
                has_ended = session.state >= State.CLOSING  # while the body came; else it was upgraded
                self.refuse(exchange, RequestRefused(catalogue.UNKNOWN_SESSION) if has_ended else _mismatch(session))
                return
            _receive(exchange, session, port, _jsonp_body(body) if is_jsonp else body)

        def refused(refusal: RefusedError) -> None:
            intake.end_post(port)
            exchange.lost = None
            session.close(reasons.PARSE_ERROR)
            self.refuse(exchange, refusal)

        exchange.read_body(self._engine.max_payload_bytes, received, refused, partial(intake.arrive, port))


def _receive(exchange: HttpExchange, session: Session, port: Port, body: bytes) -> None:
    def taken(failure: RemoteProtocolError | None) -> None:
        if failure is None:
            exchange.respond(200, _TEXT, b"ok")
        else:  # it was counted when it was found
            refuse(exchange, failure)

    session.intake.take(port, body, taken)


def _mismatch(session: Session) -> RequestRefused:
    return RequestRefused(catalogue.WRONG_TRANSPORT, transport=session.transport)


def _accept(key: bytes, headers: Headers, deflate: DeflateAgreement | None) -> bytes:
    if not headers and deflate is None:
        return websocket_handshake.accept(key)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers if name == "Set-Cookie"])
    if deflate is not None:
        lines += f"Sec-WebSocket-Extensions: {deflate.answer}\r\n"
    return websocket_handshake.accept(key, lines.encode("latin-1"))


def _jsonp_body(body: bytes) -> bytes:
    """The payload of a form with one field ``d``, in which newlines have been escaped.

    Each step is one pass in C: a megabyte of escapes, looked at one by one, would keep the loop for 350 ms.
    Raises nothing: a body without the field is an empty payload, which the decoder refuses.
    """
    fields = body.split(b"&", _MAX_FORM_FIELDS)
    values = [field[2:] for field in fields if field.startswith(b"d=")]
    if not values or len(fields) > _MAX_FORM_FIELDS or not values[0].isascii():
        return b""
    try:
        # "%41" as Python's "\\x41".
        escaped = values[0].replace(b"+", b" ").replace(b"\\", b"\\\\").replace(b"%", b"\\x")
        text = escaped.decode("unicode_escape").encode("latin-1").decode()
    except ValueError:
        return b""
    # Forms turn a newline into "\n"; one that was in the data has been doubled to "\\n". No text has a surrogate.
    return text.replace("\\\\n", "\ud800").replace("\\n", "\n").replace("\ud800", "\\n").encode()
