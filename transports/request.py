"""The HTTP request as the engine sees it, whichever host received it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from . import catalogue
from .errors import RequestRefused
from .forwarded import FORWARDING_HEADERS, Client, TrustedProxies

Headers = list[tuple[str, str]]

#: Of one query.
MAX_PARAMETERS: Final = 100
#: Characters of queries worth remembering: those of WebSocket handshakes, which are all the same. What tells one
#: request from another, as a session id does, makes a query longer.
_MAX_REMEMBERED: Final = 32


class HttpRequest:
    """Head of one request.

    ``headers`` have lower-case names and values decoded as Latin-1, as WSGI has them; repeated ones are joined as
    RFC 9110, section 5.3 says. ``target`` is the path and query as sent.

    ``peer`` is the address of the other end of the connection (empty for a Unix socket), and ``is_secure`` whether
    that connection is encrypted; ``proxies`` are those whose word about the client is taken. ``remote``, ``scheme``
    and ``host`` stand as they are given, which an application does that knows better.
    """

    __slots__ = (
        "_client",
        "_host",
        "_proxies",
        "_query",
        "_remote",
        "_scheme",
        "extras",
        "headers",
        "http_version",
        "is_relayed",
        "is_secure",
        "method",
        "peer",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        *,
        http_version: tuple[int, int] = (1, 1),
        peer: str = "",
        is_secure: bool = False,
        proxies: TrustedProxies | None = None,
        remote: str | None = None,
        scheme: str | None = None,
        host: str | None = None,
        extras: dict[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.http_version = http_version
        self.peer = peer
        self.is_secure = is_secure
        #: Whether another worker has passed it on; it is not passed on again.
        self.is_relayed = False
        #: Entries that the host adds to ``environ()``, such as its own request object.
        self.extras = extras
        self._proxies = proxies
        self._remote = remote
        self._scheme = scheme
        self._host = host
        self._client: Client | None = None
        self._query: Mapping[str, str | None] | None = None

    @property
    def client(self) -> Client:
        """The client as the connection and the trusted proxies tell it; found out when first asked for."""
        client = self._client
        if client is None:
            scheme = "https" if self.is_secure else "http"
            if self._proxies is None:
                client = Client(self.peer, scheme, self.headers.get("host", ""))
            else:
                client = self._proxies.client(self.headers, self.peer, scheme)
            self._client = client
        return client

    @property
    def remote(self) -> str:
        """The client's IP address; empty where it has none."""
        return self.client.remote if self._remote is None else self._remote

    @property
    def scheme(self) -> str:
        """``http`` or ``https``, as the client used it."""
        return self.client.scheme if self._scheme is None else self._scheme

    @property
    def host(self) -> str:
        """Host, and port where one was named, as the client used them."""
        return self.client.host if self._host is None else self._host

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query_string(self) -> str:
        return self.target.partition("?")[2]

    def as_relayed(self) -> tuple[str, bool, dict[str, str]]:
        """Peer, whether its connection is encrypted, and headers, from which another worker finds the same client."""
        if self._remote is None and self._scheme is None and self._host is None:
            return self.peer, self.is_secure, self.headers
        # The application knew better than the connection and its headers, so these must not be looked at again.
        headers = {name: value for name, value in self.headers.items() if name not in FORWARDING_HEADERS}
        if self.host:
            headers["host"] = self.host
        return self.remote, self.scheme == "https", headers

    def parameter(self, name: str) -> str | None:
        """The value of a query parameter, or None.

        Raises: RequestRefused where it is given more than once: which one counts would be a guess.
        """
        query = self._query
        if query is None:
            query = self._query = _parameters_of(self.target)
        value = query.get(name)
        if value is None and name in query:
            raise RequestRefused(catalogue.REPEATED_PARAMETER, name=name)
        return value

    def environ(self) -> dict[str, Any]:
        """The WSGI-like dictionary that connect handlers receive, with the keys python-socketio gives."""
        host, port = _split_host(self.headers.get("host", ""))
        environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self.scheme,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "SERVER_SOFTWARE": "tidegate",
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": self.query_string,
            "RAW_URI": self.target,
            "SERVER_PROTOCOL": f"HTTP/{self.http_version[0]}.{self.http_version[1]}",
            "REMOTE_ADDR": self.remote,
            "REMOTE_PORT": "0",
            "SERVER_NAME": host or "tidegate",
            "SERVER_PORT": port or ("443" if self.scheme == "https" else "80"),
            "PATH_INFO": self.path,
            "SCRIPT_NAME": "",
        }
        for name, value in self.headers.items():
            if "_" in name:
                continue  # it would pass for the header of the same name with dashes, which a proxy vouches for
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = value
        if self.extras is not None:
            environ.update(self.extras)
        return environ


def _parameters_of(target: str) -> Mapping[str, str | None]:
    """The parameters of a request's query; None for one that is given more than once.

    Raises: RequestRefused.
    """
    # What has not been percent-encoded would be read by each host in its own way.
    if not target.isascii():
        raise RequestRefused(catalogue.BAD_QUERY)
    query = target.partition("?")[2]
    return _parameters_remembered(query) if len(query) <= _MAX_REMEMBERED else _parameters(query)


def _parameters(query: str) -> Mapping[str, str | None]:
    """Of a query in ASCII. Raises: RequestRefused."""
    if "%" in query or "+" in query:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
        except ValueError as error:
            raise RequestRefused(catalogue.BAD_QUERY) from error
    else:  # the same for what needs no decoding, as what our clients send
        fields = query.split("&")
        if len(fields) > MAX_PARAMETERS:
            raise RequestRefused(catalogue.BAD_QUERY)
        pairs = [(name, value) for name, _, value in [field.partition("=") for field in fields if field]]
    parameters: dict[str, str | None] = {}
    for name, value in pairs:
        parameters[name] = None if name in parameters else value
    return parameters


_parameters_remembered = lru_cache(maxsize=64)(_parameters)


def _split_host(host: str) -> tuple[str, str]:
    """Name and port of a Host header; IPv6 addresses keep their brackets."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        return name + bracket, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port
