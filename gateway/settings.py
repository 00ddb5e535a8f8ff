"""Every setting of the `tidegate` command, in one table: the fields of `Settings`.

Each field carries its kind (how text becomes a value, and what is allowed), its TOML table, its default and
its help. Flags, environment variables, TOML keys and docs/configuration.md are derived from these fields and
are written down nowhere else:

    ping_interval_s  →  --ping-interval-s, TIDEGATE_PING_INTERVAL_S, and `ping_interval_s` under [transports]

Nothing here reads the environment or looks for a file; `gateway.cli` hands both in. Only `read_file` and
`Settings.ssl_context` open files, those they are told of. Other modules take everything about settings from
here. It is made of these, each of which may import those to its left:

    setting_problems → tls_context, setting_kinds → setting_table → setting_sources → setting_docs
"""

# ruff: noqa: RUF009  `setting()` returns a dataclass field; the rule knows only `field()` itself.

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from . import setting_docs
from .setting_kinds import (
    TRANSPORTS,
    BrokerUrl,
    Choice,
    Duration,
    FilePath,
    Host,
    ListenAddress,
    Origins,
    Proxies,
    Secret,
    Size,
    Switch,
    Target,
    TransportNames,
    UrlPath,
    Whole,
    WorkerCount,
)
from .setting_problems import Problem, SettingsError, did_you_mean
from .setting_sources import CONFIG_VARIABLE, DEFAULT_FILE, ConfigFile, Source, gather, read_file
from .setting_table import Setting, Table, setting
from .tls_context import server_context

__all__ = [
    "BY_NAME",
    "CONFIG_VARIABLE",
    "DEFAULT_FILE",
    "GROUPS",
    "SETTINGS",
    "ConfigFile",
    "Problem",
    "Resolution",
    "Setting",
    "Settings",
    "SettingsError",
    "Source",
    "Switch",
    "did_you_mean",
    "in_group",
    "load",
    "markdown",
    "read_file",
    "resolve",
]

#: Of the cluster's secret.
MIN_SECRET_CHARACTERS = 16

GROUPS: Mapping[str, str] = {
    "server": "what is served, and where",
    "workers": "more processes than one, here and on other hosts",
    "transports": "how clients stay connected",
    "limits": "bounds on what clients may cost, each worker counting alone",
    "recovery": "clients that lose their connection and come back",
    "cluster": "servers that are one",
    "cors": "which web pages may connect",
    "tls": "HTTPS and wss",
    "log": "what is written to standard error",
}


#: What `recovery_s` is for the demo, where nothing sets it.
DEMO_RECOVERY_S = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings of one gateway process.

    Values given to the constructor are parsed and checked as those of a file are.
    Raises: SettingsError
    """

    app: str | None = setting(
        None,
        Target(),
        "server",
        "What to serve: a gateway.Server, a gateway.Router or an aiohttp Application, as module:attribute; "
        "trusted_proxies, [transports], [limits], [recovery] and [cors] are then set in its code",
    )
    host: str = setting("127.0.0.1", Host(), "server", "Address to listen on; 0.0.0.0 or :: for every interface")
    port: int = setting(8000, Whole(0, 65535), "server", "TCP port to listen on; 0 takes any free one")
    backlog: int = setting(1024, Whole(1, 65535), "server", "Connections that the kernel keeps waiting to be accepted")
    path: str = setting("/socket.io/", UrlPath(), "server", "URL path under which clients connect")
    trusted_proxies: tuple[str, ...] = setting(
        ("loopback",),
        Proxies(),
        "server",
        "Peers whose Forwarded and X-Forwarded-* headers tell the client's address, scheme and host; loopback includes "
        "Unix sockets",
    )
    demo: bool = setting(False, Switch(), "server", "Serve the demonstration page and its events; without APP only")
    uvloop: bool = setting(True, Switch(), "server", "Run on uvloop where it is installed")
    drain_timeout_s: float = setting(
        10.0,
        Duration(0.0),
        "server",
        "Time that clients are given to leave after SIGTERM or SIGINT, before they are cut off",
    )

    workers: int | str = setting(
        1, WorkerCount(), "workers", "Processes that share the port, watched and restarted by one more"
    )
    worker_timeout_s: float = setting(
        60.0,
        Duration(0.0),
        "workers",
        "Time that a worker may be held up, or take to start, before it is killed and started again; 0 for no limit",
    )
    runtime_dir: Path | None = setting(
        None,
        FilePath("a directory"),
        "workers",
        "Where workers meet, a directory of our user alone; not set: $RUNTIME_DIRECTORY, else tidegate in "
        "$XDG_RUNTIME_DIR, else tidegate-UID among the temporary files",
    )
    cluster_listen: str | None = setting(
        None,
        ListenAddress(),
        "workers",
        "Internal address, on which the workers of other hosts pass requests on to those of this one",
    )
    cluster_secret: str | None = setting(
        None,
        Secret(),
        "workers",
        "What all hosts of a cluster know, of 16 characters or more; better not as a flag, which other users can see "
        "in the process list",
    )
    cluster_registry: Path | None = setting(
        None,
        FilePath("a JSON file"),
        "workers",
        "Which host each worker lives on: a JSON object of worker ids with host:port, read again when it changes; not "
        "set: as the nodes of the broker tell",
    )
    cluster_certfile: Path | None = setting(
        None,
        FilePath(),
        "workers",
        "Certificate chain that this host shows to the others, and they to it; with cluster_keyfile, encrypts the "
        "internal address",
    )
    cluster_keyfile: Path | None = setting(None, FilePath(), "workers", "Private key of cluster_certfile")
    cluster_cafile: Path | None = setting(
        None,
        FilePath(),
        "workers",
        "Authorities that the other hosts' certificates are signed by; not set: cluster_certfile, for one that all "
        "hosts share",
    )

    transports: tuple[str, ...] = setting(
        TRANSPORTS, TransportNames(), "transports", "Transports that are offered, comma separated"
    )
    allow_upgrades: bool = setting(
        True, Switch(), "transports", "Let a session move to a better transport while it runs"
    )
    ping_interval_s: float = setting(25.0, Duration(0.05), "transports", "Time between pings to each client")
    ping_timeout_s: float = setting(
        20.0, Duration(), "transports", "Time that a client has to answer a ping before it counts as gone"
    )
    upgrade_timeout_s: float = setting(10.0, Duration(), "transports", "Time that a move to another transport may take")
    connect_timeout_s: float = setting(
        45.0,
        Duration(),
        "transports",
        "Time that a new session has to ask for a Socket.IO namespace that is served, before it is disconnected",
    )
    stream_max_bytes: int = setting(
        1024**2,
        Size(),
        "transports",
        "Length of one xhr-streaming response, after which the client opens the next",
    )
    stream_max_s: float = setting(
        300.0,
        Duration(),
        "transports",
        "Age of one xhr-streaming response, after which the client opens the next",
    )
    http_compression: bool = setting(
        True, Switch(), "transports", "Compress long-polling responses of 1KiB and more, for clients that accept gzip"
    )
    websocket_compression: bool = setting(
        False,
        Switch(),
        "transports",
        "Compress WebSocket messages of 1KiB and more, and take compressed ones, for clients that offer "
        "permessage-deflate",
    )

    max_payload_bytes: int = setting(
        1_000_000, Size(), "limits", "Largest incoming message, and largest body of one POST"
    )
    max_buffered_bytes: int = setting(
        4 * 1024**2,
        Size(),
        "limits",
        "Bytes that may wait for one client, 256 more counted for each message, before it is disconnected as too "
        "slow; for a client with no request open, one message or 64KiB may always wait",
    )

    max_total_buffered_bytes: int = setting(
        512 * 1024**2,
        Size(0),
        "limits",
        "Bytes that may wait for all clients of a worker together, each recipient of a message counted, before those "
        "with the most are disconnected; 0 for no limit",
    )
    max_connections: int = setting(
        100_000, Whole(0, 10**9), "limits", "Sessions open at a time in each worker; 0 for no limit"
    )
    max_connections_per_address: int = setting(
        5_000,
        Whole(0, 10**9),
        "limits",
        "Sessions open at a time in each worker from one client address, or one IPv6 network of 64 bits; 0 for no "
        "limit",
    )
    handshakes_per_second: int = setting(
        100,
        Whole(0, 10**9),
        "limits",
        "New sessions from one client address in a second in each worker, ten seconds' worth at once after silence; 0 "
        "for no limit",
    )
    packets_per_second: int = setting(
        10_000,
        Whole(0, 10**9),
        "limits",
        "Packets of one client in a second, two seconds' worth at once after silence; a client that sends more is "
        "read more slowly, and nothing is lost; 0 for no limit",
    )
    bytes_per_second: int = setting(32 * 1024**2, Size(0), "limits", "As packets_per_second, for bytes; 0 for no limit")
    max_attachments_bytes: int = setting(
        8 * 1024**2, Size(), "limits", "Bytes of one incoming event with all its binary attachments"
    )
    max_namespaces: int = setting(100, Whole(1, 10**9), "limits", "Socket.IO namespaces that one client may join")
    max_rooms: int = setting(5_000, Whole(1, 10**9), "limits", "Rooms that one client may be in")
    max_pending_acks: int = setting(
        10_000,
        Whole(1, 10**9),
        "limits",
        "Acks that the server awaits from one client; beyond it the oldest is given up",
    )
    max_handlers_per_connection: int = setting(
        1_000,
        Whole(1, 10**9),
        "limits",
        "Coroutine handlers of one client that run or wait; beyond it nothing is read from that client until half "
        "of them have ended",
    )
    max_handlers: int = setting(
        20_000, Whole(1, 10**9), "limits", "As max_handlers_per_connection, for all clients together"
    )
    once_window_s: float = setting(
        300.0,
        Duration(0.0),
        "limits",
        "Time after its last message for which it is remembered what a client has sent with tidegate:once, so that "
        "what it sends again is handled once; 0 makes that an event like any other",
    )
    max_once_streams: int = setting(
        100_000,
        Whole(1, 10**9),
        "limits",
        "Streams of such messages that are remembered, one for each client and namespace; beyond it the least recently "
        "used is forgotten, and what is sent again of it runs again",
    )
    max_once_bytes: int = setting(
        256 * 1024**2, Size(), "limits", "As max_once_streams, for the bytes of the answers that are remembered"
    )

    recovery_s: float = setting(
        0.0,
        Duration(0.0),
        "recovery",
        "Time for which the place of a client that is gone is kept: when it comes back it gets what it has missed; "
        "every event then has one more argument; 0 for none, but 2m for --demo where this is not set",
    )
    recovery_max_bytes: int = setting(
        64 * 1024**2,
        Size(),
        "recovery",
        "Bytes that the messages kept for clients that come back may take, all together; the oldest go first",
    )
    recovery_max_clients: int = setting(
        100_000,
        Whole(1, 10**9),
        "recovery",
        "Places kept of clients that are gone; those that have been gone for longest are forgotten first",
    )

    broker: str | None = setting(
        None,
        BrokerUrl(),
        "cluster",
        "What joins this server with others, or where `tidegate nodes` and its like find them; without one a server is "
        "alone",
    )

    cors_allowed_origins: str | tuple[str, ...] = setting(
        "same-origin",
        Origins(),
        "cors",
        "Origins of the pages that may connect, such as https://app.example.com, comma separated",
    )
    cors_credentials: bool = setting(
        True, Switch(), "cors", "Let pages of other allowed origins send cookies and authorization"
    )

    certfile: Path | None = setting(None, FilePath(), "tls", "Certificate chain; with keyfile, turns TLS on")
    keyfile: Path | None = setting(None, FilePath(), "tls", "Private key of the certificate")
    keyfile_password: str | None = setting(
        None,
        Secret(),
        "tls",
        "Password of the private key; better not as a flag, which other users can see in the process list",
    )

    log_format: str = setting("text", Choice(("text", "json")), "log", "Text for people, or one JSON object a line")
    log_level: str = setting(
        "info", Choice(("debug", "info", "warning", "error")), "log", "Least serious level that is written"
    )
    access_log: bool = setting(False, Switch(), "log", "Write a line for each HTTP request")

    def __post_init__(self) -> None:
        problems = []
        for each in TABLE:
            try:
                object.__setattr__(self, each.name, each.kind.parse(getattr(self, each.name)))
            except ValueError as exc:
                problems.append(Problem(each.name, each.name, str(exc)))
        broken = {problem.name for problem in problems}
        problems += [Problem(name, name, message) for name, message in _conflicts(self._values(), frozenset(broken))]
        if problems:
            raise SettingsError(problems)

    def ssl_context(self) -> ssl.SSLContext | None:
        """What a TLS listener needs, or None without a certificate. Reads the files each time.

        Raises: SettingsError when a file is missing or of no use.
        """
        if self.certfile is None or self.keyfile is None:
            return None
        return server_context(self.certfile, self.keyfile, self.keyfile_password)

    @property
    def worker_count(self) -> int:
        """Processes that serve clients."""
        return _cores() if self.workers == "auto" else int(self.workers)

    @property
    def is_supervised(self) -> bool:
        """Whether one process more watches those that serve."""
        return self.workers != 1 or self.cluster_listen is not None

    def _values(self) -> dict[str, object]:
        return {each.name: getattr(self, each.name) for each in TABLE}


TABLE = Table(Settings, GROUPS)
SETTINGS = TABLE.rows
BY_NAME = TABLE.by_name
in_group = TABLE.in_group


def _cores() -> int:
    """Those that this process may run on, where the platform tells."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _conflicts(values: Mapping[str, object], broken: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Settings that do not go together, as name and message. Those in `broken` have been reported already."""
    given = {name for name in ("certfile", "keyfile", "keyfile_password") if values[name] is not None}
    if given and not broken & {"certfile", "keyfile", "keyfile_password"}:
        if "keyfile" not in given and "certfile" in given:
            yield "certfile", "needs keyfile beside it (the same file when it holds the key too)"
        elif "certfile" not in given and "keyfile" in given:
            yield "keyfile", "needs certfile beside it"
        if "keyfile_password" in given and "keyfile" not in given:
            yield "keyfile_password", "needs keyfile, which is not set"
    yield from _cluster_conflicts(values, broken)


def _cluster_conflicts(values: Mapping[str, object], broken: frozenset[str]) -> Iterator[tuple[str, str]]:
    secret = values["cluster_secret"]
    if isinstance(secret, str) and len(secret) < MIN_SECRET_CHARACTERS:
        yield "cluster_secret", f"must have {MIN_SECRET_CHARACTERS} characters or more"
    if values["cluster_listen"] is not None and secret is None and "cluster_secret" not in broken:
        yield "cluster_listen", "needs cluster_secret beside it"
    if (values["cluster_certfile"] is None) != (values["cluster_keyfile"] is None):
        given, missing = ("certfile", "keyfile") if values["cluster_certfile"] is not None else ("keyfile", "certfile")
        yield f"cluster_{given}", f"needs cluster_{missing} beside it"
    elif values["cluster_cafile"] is not None and values["cluster_certfile"] is None:
        yield "cluster_cafile", "needs cluster_certfile and cluster_keyfile beside it"


@dataclass(frozen=True, slots=True)
class Resolution:
    """Every setting with its source, and everything that is wrong.

    values, sources: by name, for all settings; a setting whose value was refused has its next best one
    """

    values: Mapping[str, object]
    sources: Mapping[str, Source]
    problems: tuple[Problem, ...]

    def settings(self) -> Settings:
        """Raises: SettingsError with all problems."""
        if self.problems:
            raise SettingsError(self.problems)
        return Settings(**cast("dict[str, Any]", self.values))

    def locate(self, name: str) -> str:
        """Where the value of a setting came from, as an error names it."""
        return self.sources[name].locate(BY_NAME[name])


def load(argv_values: Mapping[str, object], environ: Mapping[str, str], file: ConfigFile | None = None) -> Settings:
    """The effective settings: a flag wins over a variable, that over the file, that over the default.

    argv_values: by setting name, only those that were given
    Raises: SettingsError naming all problems at once, also those of values that another one overrides.
    """
    return resolve(argv_values, environ, file).settings()


def resolve(
    argv_values: Mapping[str, object], environ: Mapping[str, str], file: ConfigFile | None = None
) -> Resolution:
    """As `load`, with the source of each value, and problems collected rather than raised."""
    found = gather(TABLE, argv_values, environ, file)
    values = dict(found.values)
    if values["demo"] and values["app"] is None and found.sources["recovery_s"].kind == "default":
        values["recovery_s"] = DEMO_RECOVERY_S
    problems = list(found.problems)
    for name, message in _conflicts(values, found.broken):
        problems.append(Problem(name, found.sources[name].locate(BY_NAME[name]), message))
    return Resolution(values, found.sources, tuple(problems))


def markdown() -> str:
    """The text of docs/configuration.md: `tidegate config --markdown > docs/configuration.md`."""
    return setting_docs.markdown(TABLE)
