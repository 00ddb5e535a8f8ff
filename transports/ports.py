"""What the layers of this package ask of each other.

A *host* receives HTTP and hands each request to the engine as an ``HttpExchange``. A *port* is a transport as
its session sees it. Everything happens on the loop's thread; no method here blocks or awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from .errors import RefusedError
from .outbound import Run
from .request import Headers, HttpRequest

if TYPE_CHECKING:
    from .relaying.link import OpenLink

#: A port that streams is paused once it holds so many bytes which the kernel has not taken. Little, so that what
#: waits for a slow client waits in its session, where newer messages may replace it.
PORT_BUFFER_BYTES: Final = 16 * 1024


class HttpExchange(Protocol):
    """One request and the way to answer it. Exactly one of ``respond`` and ``take_over`` ends it."""

    request: HttpRequest
    #: Headers that every answer to this request carries, such as those of CORS.
    extra_headers: Headers
    #: Called when the peer is gone before the exchange was ended. Set by whoever keeps the exchange waiting.
    lost: Callable[[], None] | None

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer. The host adds Content-Length, Date and Connection. Does nothing after the peer is gone."""

    def is_unsent(self) -> bool:
        """Whether part of the answer that was given is known to wait for the peer to take it."""

    def drop_unsent(self) -> None:
        """Drop the connection if it still does."""

    def cut(self) -> None:
        """Drop the connection without an answer."""

    def read_body(
        self,
        limit: int,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        """Call ``received`` with the whole body, or ``refused`` when it is over ``limit`` bytes or malformed.

        Neither is called when the peer goes away first; ``lost`` is. ``arriving`` is told how much more memory the
        body takes while it is not whole. Whoever answers first needs it no more.
        """

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """The connection itself, from now on served by ``protocol``, and bytes already read beyond the request.

        ``protocol.connection_made`` is not called.
        Raises: ConnectionError when the peer is gone.
        """

    def take_socket(self) -> tuple[int, bytes] | None:
        """A descriptor of the connection and all of the request that was read, for another process to go on with.

        None where the connection has state that cannot go along; the exchange is then as it was.
        """

    def relay(self, open_link: OpenLink, refused: Callable[[HttpExchange], None]) -> None:
        """Have another worker answer over the link that ``open_link`` gives, both bodies streamed.

        ``refused`` is called with an exchange to answer where there is no link, or it breaks before the answer.
        """


#: Answers an exchange with a refusal, which it counts.
Refuse = Callable[[HttpExchange, RefusedError], None]


class Forwarder(Protocol):
    """The way to other workers, for requests that are not for this one."""

    def forward(self, exchange: HttpExchange, owner: str, refuse: Refuse) -> bool:
        """Pass the request on to the worker ``owner``; False where there is none of that id."""

    def pass_on(self, exchange: HttpExchange, refuse: Refuse) -> bool:
        """Pass a request that any worker can answer on to another one; False where there is none."""


class Port(Protocol):
    """A transport, bound to one session."""

    name: str
    #: Whether ``write`` may be called now.
    writable: bool

    def write(self, run: Run) -> Run | None:
        """Send what is in ``run``; returns what could not go out yet."""

    def buffered_bytes(self) -> int:
        """Bytes written that the kernel has not taken."""

    def buffered_in(self) -> int:
        """Bytes received that make no whole message yet, or were not handed to the session."""

    def pause_reading(self) -> None:
        """Hand nothing more to the session until ``resume_reading``."""

    def resume_reading(self) -> None:
        """Hand over what was kept, in order, and read on."""

    def deadline(self) -> float | None:
        """When ``on_deadline`` wants to be called (monotonic seconds)."""

    def on_deadline(self, now: float) -> None:
        """The deadline has come."""

    def release(self) -> None:
        """An upgrade is under way: end the response that is open, so that the client can pause."""

    def detach(self) -> None:
        """The session goes on with another port; end what is still open, without a word to the session."""

    def close(self, run: Run | None, *, code: int, reason: str, by_client: bool) -> Run | None:
        """Say good-bye after ``run``. Returns what is left to be said when the client's next request has come."""

    def part(self, run: Run) -> Run | None:
        """Say what ``close`` has left, on the request that has come; returns what is left still."""

    def abort(self) -> None:
        """Drop the connection at once, with whatever was buffered."""
