"""Where Redis is and how it is used, from a URL.

::

    redis://[user[:password]@]host[:port][/database]           one server; rediss:// over TLS
    redis+unix:///path/to/redis.sock
    redis+sentinel://[user[:password]@]host[:port],…/name[/database]
    redis+cluster://[user[:password]@]host[:port],…

``valkey`` and ``valkeys`` may stand for ``redis`` and ``rediss`` in each. Options follow as a query: the fields of
`RedisOptions` by name, as in ``?prefix=chat:&settle_s=5``.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from .base import BrokerConfigError

Mode = Literal["single", "sentinel", "cluster"]

_PORTS: Final = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_SCHEMES: Final = ("redis", "rediss", "valkey", "valkeys")


class Address(NamedTuple):
    """A TCP address, or with an empty host the path of a Unix-domain socket in ``path``."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """prefix: before every key and channel; clusters of gateways that share a Redis need one each.

    connect_timeout_s: for each step of connecting
    canary_interval_s, canary_timeout_s: a message to oneself is sent so often, and has so long to come back
    max_backoff_s: longest wait before connecting again; each is drawn from 0 to twice the last one's most
    settle_s: after an outage what waited is sent once all known nodes are back too, or after so long
    stream_max_length, stream_ttl_s: what is kept of a topic's durable publications, about; and how long after the last
    clock_skew_s: how far the clock of a replica that takes over may be behind
    max_held_bytes: of what comes live while a node catches up
    verify, ca_file, cert_file, key_file: of TLS
    """

    addresses: tuple[Address, ...]
    mode: Mode = "single"
    master_name: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    is_tls: bool = False
    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    prefix: str = "tidegate:"
    connect_timeout_s: float = 5.0
    canary_interval_s: float = 1.0
    canary_timeout_s: float = 3.0
    max_backoff_s: float = 5.0
    settle_s: float = 2.0
    stream_max_length: int = 1000
    stream_ttl_s: float = 300.0
    clock_skew_s: float = 1.0
    max_held_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        if not self.addresses:
            raise BrokerConfigError("the URL names no host")
        if self.mode == "sentinel" and not self.master_name:
            raise BrokerConfigError("the URL of Sentinel ends with the name of the master: redis+sentinel://host/NAME")
        if self.mode == "cluster" and self.database:
            raise BrokerConfigError("Redis Cluster has database 0 only")
        if self.mode == "single" and len(self.addresses) > 1:
            raise BrokerConfigError("several hosts need redis+sentinel:// or redis+cluster://")
        for name in ("connect_timeout_s", "canary_interval_s", "canary_timeout_s", "max_backoff_s", "stream_ttl_s"):
            if not getattr(self, name) > 0:
                raise BrokerConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.stream_max_length < 1 or self.max_held_bytes < 1:
            raise BrokerConfigError("stream_max_length and max_held_bytes must be 1 or more")
        if "{" in self.prefix or "}" in self.prefix or not self.prefix.isascii():
            raise BrokerConfigError(f"a prefix is ASCII without braces, not {self.prefix!r}")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Raises: BrokerConfigError for files that cannot be read."""
        if not self.is_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise BrokerConfigError(f"TLS to Redis: {error}") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


#: Given by the rest of the URL.
_NO_QUERY: Final = {"addresses", "mode", "is_tls"}
_KINDS: Final = {found.name: found.type for found in fields(RedisOptions) if found.name not in _NO_QUERY}


def parse_url(url: str, **changes: Any) -> RedisOptions:
    """changes: fields of `RedisOptions` that win over the URL's. Raises: BrokerConfigError, without the password."""
    try:
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme not in _SCHEMES or kind not in ("", "sentinel", "cluster", "unix"):
            raise BrokerConfigError(
                f"a broker URL begins with redis://, rediss://, redis+sentinel://, redis+cluster:// or redis+unix:// "
                f"(or valkey…), not with {parts.scheme}://"
            )
        user_info, _, hosts = parts.netloc.rpartition("@")
        username, _, password = user_info.partition(":")
        options: dict[str, Any] = {
            "mode": kind if kind in ("sentinel", "cluster") else "single",
            "is_tls": scheme.endswith("s") and scheme != "redis",
            "username": unquote(username) or None,
            "password": unquote(password) or None,
        }
        path = unquote(parts.path)
        if kind == "unix":
            options["addresses"] = (Address("", 0, path),) if path not in ("", "/") else ()
        else:
            options["addresses"] = tuple(_address(host, _PORTS[options["mode"]]) for host in hosts.split(",") if host)
            options.update(_path(path.strip("/"), options["mode"]))
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            options[name] = _option(name, text)
        return RedisOptions(**options | changes)
    except ValueError as error:
        if isinstance(error, BrokerConfigError):
            raise
        raise BrokerConfigError(f"the URL of the broker cannot be read: {error}") from None


def _address(text: str, port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise BrokerConfigError(f"no host in {text!r}")
    return Address(parts.hostname, parts.port or port)


def _path(path: str, mode: Mode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if mode == "sentinel":
        found["master_name"], _, path = path.partition("/")
    if path:
        if not path.isdecimal():
            raise BrokerConfigError(f"a database is a number, not {path!r}")
        found["database"] = int(path)
    return found


def _option(name: str, text: str) -> Any:
    kind = _KINDS.get(name)
    if kind is None:
        raise BrokerConfigError(f"no option of the broker is called {name!r}; there are {', '.join(sorted(_KINDS))}")
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        raise BrokerConfigError(f"{name} is a number, not {text!r}") from None
    if kind == "bool":
        if text not in ("yes", "no", "true", "false", "1", "0"):
            raise BrokerConfigError(f"{name} is yes or no, not {text!r}")
        return text in ("yes", "true", "1")
    return text
