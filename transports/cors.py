"""Which pages of other origins may talk to the engine, and the headers that tell their browsers.

WebSockets are not subject to CORS, so the origin is checked here for every request.
Spec: the Fetch standard, "HTTP-CORS protocol".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from . import catalogue
from .errors import RequestRefused
from .ports import HttpExchange
from .request import Headers, HttpRequest

_HEADER_NAMES = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z, ]*")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_VARY: Headers = [("Vary", "Origin")]

#: As python-engineio takes it: None is the same origin only, "*" every origin, [] turns the check off.
AllowedOrigins = None | str | Sequence[str] | Callable[..., bool]


def own_origins(request: HttpRequest) -> list[str]:
    """The origins under which the request reached us: of the connection, and as the client sees it."""
    host = request.headers.get("host")
    origins = [_origin("https" if request.is_secure else "http", host)] if host else []
    if request.host:
        seen = _origin(request.scheme, request.host)
        origins += [] if seen in origins else [seen]
    return origins


def _origin(scheme: str, host: str) -> str:
    """As browsers write it: in lower case, without the scheme's own port."""
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


class CorsPolicy:
    """``credentials``: whether pages of named origins may send cookies."""

    def __init__(self, allowed: AllowedOrigins, credentials: bool) -> None:
        self._allowed = allowed
        self._credentials = credentials
        named: Sequence[str] | None = (
            allowed if isinstance(allowed, Sequence) and not isinstance(allowed, str) else None
        )
        self._is_off = named is not None and not named
        self._any = allowed == "*" or (named is not None and "*" in named)

    def apply(self, exchange: HttpExchange) -> None:
        """Give the exchange the headers that its answer carries, also where that is a refusal.

        Raises: RequestRefused for an origin that is not allowed, naming those that are.
        """
        request = exchange.request
        origin = request.headers.get("origin")
        if self._is_off:
            return
        if self._any:
            # Browsers refuse "*" with credentials, and reflecting every origin with them would let any page act
            # for the user: cookies are for named origins.
            if origin is not None:
                exchange.extra_headers = [("Access-Control-Allow-Origin", "*"), *self._preflight(request)]
            return
        exchange.extra_headers = _VARY
        if origin is None:
            return
        expected = self._expected(request, origin)
        if origin not in expected or not origin.isascii():
            raise self._refusal(request, origin, expected)
        headers = [("Access-Control-Allow-Origin", origin), *_VARY, *self._preflight(request)]
        if self._credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        exchange.extra_headers = headers

    def _refusal(self, request: HttpRequest, origin: str, expected: list[str]) -> RequestRefused:
        named = " or ".join(map(_ascii, expected)) if expected else "none"
        hint = request.client.disbelief if self._allowed is None else ""
        return RequestRefused(
            catalogue.ORIGIN_REFUSED, origin=_ascii(origin), expected=named, hint=hint or "see cors_allowed_origins"
        )

    def _expected(self, request: HttpRequest, origin: str) -> list[str]:
        allowed: Any = self._allowed
        if allowed is None:
            direct = f"{'https' if request.is_secure else 'http'}://{request.headers.get('host', '')}"
            # Most requests come to this without a look at what proxies say.
            return [direct] if origin == direct and "host" in request.headers else own_origins(request)
        if isinstance(allowed, str):
            return [allowed]
        if callable(allowed):
            try:
                accepted = allowed(origin, request.environ())
            except TypeError:
                accepted = allowed(origin)
            return [origin] if accepted else []
        return list(allowed)

    @staticmethod
    def _preflight(request: HttpRequest) -> Headers:
        if request.method != "OPTIONS":
            return []
        asked = request.headers.get("access-control-request-headers")
        headers = [("Access-Control-Allow-Methods", "OPTIONS, GET, POST"), ("Access-Control-Max-Age", "600")]
        if asked is not None and _HEADER_NAMES.fullmatch(asked):
            headers.append(("Access-Control-Allow-Headers", asked))
        return headers


def _ascii(text: str) -> str:
    """``text`` with everything escaped that is not ASCII."""
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode("ascii")
