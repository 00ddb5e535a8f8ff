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
from .request import Headers, HttpRequest

_HEADER_NAMES = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z, ]*")

#: As python-engineio takes it: None is the same origin only, "*" every origin, [] turns the check off.
AllowedOrigins = None | str | Sequence[str] | Callable[..., bool]


def own_origins(request: HttpRequest) -> list[str]:
    """The origins under which the request reached us, also as a proxy in front of us reports them."""
    headers = request.headers
    host = headers.get("host")
    if not host:
        return []
    origins = [f"{request.scheme}://{host}"]
    if "x-forwarded-proto" in headers or "x-forwarded-host" in headers:
        scheme = headers.get("x-forwarded-proto", request.scheme).split(",")[0].strip()
        origins.append(f"{scheme}://{headers.get('x-forwarded-host', host).split(',')[0].strip()}")
    return origins


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

    def headers(self, request: HttpRequest) -> Headers:
        """What the response says.

        Raises: RequestRefused for an origin that is not allowed, naming those that are.
        """
        origin = request.headers.get("origin")
        if self._is_off or origin is None:
            return []
        if self._any:
            # Browsers refuse "*" with credentials, and reflecting every origin with them would let any page act
            # for the user: cookies are for named origins.
            return [("Access-Control-Allow-Origin", "*"), *self._preflight(request)]
        expected = self._expected(request, origin)
        if origin not in expected or not origin.isascii():
            named = " or ".join(expected) if expected else "none"
            raise RequestRefused(catalogue.ORIGIN_REFUSED, origin=origin, expected=named)
        headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin"), *self._preflight(request)]
        if self._credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        return headers

    def _expected(self, request: HttpRequest, origin: str) -> list[str]:
        allowed: Any = self._allowed
        if allowed is None:
            return own_origins(request)
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
