"""Every setting of the `tidegate` command, in one table: the fields of `Settings`.

Each field carries its kind (how text becomes a value, and what is allowed), its TOML table, its default and
its help. Flags, environment variables, TOML keys and docs/configuration.md are derived from these fields and
are written down nowhere else:

    ping_interval_s  →  --ping-interval-s, TIDEGATE_PING_INTERVAL_S, and `ping_interval_s` under [transports]

Nothing here reads the environment or looks for a file; `gateway.cli` hands both in. Only `read_file` and
`Settings.ssl_context` open files, those they are told of.
"""

# ruff: noqa: RUF009  `setting()` returns a dataclass field; the rule knows only `field()` itself.

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import json
import math
import re
import ssl
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

T = TypeVar("T")

VARIABLE_PREFIX = "TIDEGATE_"
CONFIG_VARIABLE = "TIDEGATE_CONFIG"
DEFAULT_FILE = "tidegate.toml"
TRANSPORTS = ("websocket", "xhr-streaming", "polling")

MASK = "********"
NOT_SET = "(not set)"

# Kubernetes gives every pod such variables for each Service of its namespace, so a Service named `tidegate`
# or `tidegate-redis` would otherwise keep the gateway from starting.
_SERVICE_VARIABLE = re.compile(
    r"TIDEGATE_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


# --- Problems


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration, told in one line.

    name: the setting, or the unknown key as written
    where: the flag, variable or file and key that it came from
    message: what is wrong and what is allowed; never the value of a secret
    """

    name: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'port'?"`, or nothing when no known word is close."""
    by_fold = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return f"; did you mean {by_fold[close[0]]!r}?" if close else ""


# --- Kinds: how a raw value becomes a setting


class Kind(Generic[T]):
    """What values a setting takes.

    `parse` takes what a flag, a variable (text) or a TOML file (typed) gives, and its own results, unchanged.
    """

    metavar: ClassVar[str] = "TEXT"
    such_as: ClassVar[str] = ""

    @property
    def bounds(self) -> str:
        """What is allowed, in a few words."""
        raise NotImplementedError

    @property
    def allowed(self) -> str:
        """What is allowed, with examples; completes "must be ..."."""
        return f"{self.bounds}, such as {self.such_as}" if self.such_as else self.bounds

    def parse(self, raw: object) -> T:
        """The value that `raw` stands for.

        Raises: ValueError, its text completing "port ...".
        """
        raise NotImplementedError

    def show(self, value: T) -> str:
        """Text that `parse` turns back into `value`."""
        return str(value)

    def plain(self, value: T) -> object:
        """The value as JSON and TOML can hold it."""
        return value

    def refuse(self, raw: object) -> ValueError:
        return ValueError(f"must be {self.allowed}, not {raw!r}")


class Switch(Kind[bool]):
    """true or false"""

    WORDS: ClassVar = {
        **dict.fromkeys(("true", "yes", "on", "1"), True),
        **dict.fromkeys(("false", "no", "off", "0"), False),
    }

    @property
    def bounds(self) -> str:
        return "true or false"

    def parse(self, raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, str) and raw.strip().lower() in self.WORDS:
            return self.WORDS[raw.strip().lower()]
        raise self.refuse(raw)

    def show(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Whole(Kind[int]):
    """a whole number within bounds"""

    metavar: ClassVar[str] = "N"
    least: int
    most: int

    @property
    def bounds(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, raw: object) -> int:
        value = _whole(raw)
        if value is None or not self.least <= value <= self.most:
            raise self.refuse(raw)
        return value


_SIZE_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
_SIZE_UNITS |= {"kib": 1024, "mib": 1024**2, "gib": 1024**3}


@dataclass(frozen=True, slots=True)
class Size(Kind[int]):
    """a number of bytes"""

    metavar: ClassVar[str] = "BYTES"
    such_as: ClassVar[str] = "65536, 64KiB, 1MiB or 2MB"
    least: int = 1

    @property
    def bounds(self) -> str:
        return f"a number of bytes of at least {self.least}"

    def parse(self, raw: object) -> int:
        value = _whole(raw)
        if value is None:
            match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([kmg]i?b|b)", _text(raw), re.IGNORECASE)
            if match is None:
                raise self.refuse(raw)
            exact = Decimal(match[1]) * _SIZE_UNITS[match[2].lower()]
            value = int(exact)
            if value != exact:
                raise self.refuse(raw)
        if value < self.least:
            raise self.refuse(raw)
        return value

    def show(self, value: int) -> str:
        for unit, factor in (
            ("GiB", 1024**3),
            ("MiB", 1024**2),
            ("KiB", 1024),
            ("MB", 1000**2),
            ("KB", 1000),
        ):
            if value and value % factor == 0:
                return f"{value // factor}{unit}"
        return str(value)


_DURATION_UNITS = {
    "": Decimal(1),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Duration(Kind[float]):
    """a time in seconds

    The upper bound is a day: browsers count timers in milliseconds in 31 bits, and fire longer ones at once.
    """

    metavar: ClassVar[str] = "SECONDS"
    such_as: ClassVar[str] = "500ms, 25s, 2m or a plain number of seconds"
    least_s: float = 0.001

    @property
    def bounds(self) -> str:
        return f"a time from {self.show(self.least_s)} to 24h"

    def parse(self, raw: object) -> float:
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            value = float(raw) if abs(raw) <= _DAY_S else math.inf
        else:
            match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?|\.[0-9]{1,18}) ?(ms|s|m|h)?", _text(raw))
            if match is None:
                raise self.refuse(raw)
            value = float(Decimal(match[1]) * _DURATION_UNITS[match[2] or ""])
        if not self.least_s <= value <= _DAY_S:  # false for NaN too
            raise self.refuse(raw)
        return value

    def show(self, value: float) -> str:
        if 0 < value < 1:
            milliseconds = Decimal(repr(value)) * 1000
            return f"{milliseconds.normalize():f}ms"
        return f"{Decimal(repr(value)).normalize():f}s"


@dataclass(frozen=True, slots=True)
class Choice(Kind[str]):
    """one word of a few"""

    metavar: ClassVar[str] = "WORD"
    options: tuple[str, ...]

    @property
    def bounds(self) -> str:
        return _either(self.options)

    def parse(self, raw: object) -> str:
        word = _text(raw).lower()
        if word in self.options:
            return word
        raise ValueError(f"must be {self.allowed}, not {raw!r}{did_you_mean(word, self.options)}")


class TransportNames(Kind[tuple[str, ...]]):
    """one or more transports"""

    metavar: ClassVar[str] = "NAME,..."

    @property
    def bounds(self) -> str:
        return f"one or more of {', '.join(TRANSPORTS)}"

    def parse(self, raw: object) -> tuple[str, ...]:
        names = _texts(raw)
        if not names:
            raise self.refuse(raw)
        for name in names:
            if name not in TRANSPORTS:
                raise ValueError(f"must be {self.allowed}, not {name!r}{did_you_mean(name, TRANSPORTS)}")
        if len(set(names)) != len(names):
            raise ValueError(f"must name each transport once, not {raw!r}")
        return names

    def show(self, value: tuple[str, ...]) -> str:
        return ",".join(value)

    def plain(self, value: tuple[str, ...]) -> object:
        return list(value)


_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins(Kind["str | tuple[str, ...]"]):
    """which pages may connect: "same-origin", "*", or origins as browsers send them"""

    metavar: ClassVar[str] = "ORIGIN,..."
    such_as: ClassVar[str] = "https://app.example.com or http://localhost:3000"
    WORDS: ClassVar = ("same-origin", "*")

    @property
    def bounds(self) -> str:
        return "same-origin, *, or a list of origins"

    def parse(self, raw: object) -> str | tuple[str, ...]:
        origins = _texts(raw)
        if len(origins) == 1 and origins[0].lower() in self.WORDS:
            return origins[0].lower()
        if not origins:
            raise self.refuse(raw)
        return tuple(dict.fromkeys(map(self._origin, origins)))

    def _origin(self, text: str) -> str:
        if text.lower() in self.WORDS:
            raise ValueError(f"must have {text!r} alone or not at all; allowed are {self.allowed}")
        match = _ORIGIN.fullmatch(text.lower())
        port = int(match[3]) if match and match[3] else None
        if match is None or (port is not None and not 1 <= port <= 65535):
            shorter = re.match(r"[a-z][a-z0-9+.-]*://[^/?#]+", text, re.IGNORECASE)
            hint = ""
            if shorter and shorter[0] != text and _ORIGIN.fullmatch(shorter[0].lower()):
                hint = f"; an origin has no path, did you mean {shorter[0]!r}?"
            elif match is None and "://" not in text:
                hint = did_you_mean(text, self.WORDS) or f"; did you mean {'https://' + text!r}?"
            raise ValueError(f"must be {self.allowed}; {text!r} is not scheme://host[:port]{hint}")
        # Browsers write the scheme and host in lower case and leave the scheme's own port out.
        if port is None or _DEFAULT_PORTS.get(match[1]) == port:
            return f"{match[1]}://{match[2]}"
        return f"{match[1]}://{match[2]}:{port}"

    def show(self, value: str | tuple[str, ...]) -> str:
        return value if isinstance(value, str) else ",".join(value)

    def plain(self, value: str | tuple[str, ...]) -> object:
        return value if isinstance(value, str) else list(value)


class Host(Kind[str]):
    """an address to listen on"""

    metavar: ClassVar[str] = "HOST"

    @property
    def bounds(self) -> str:
        return "a host name or IP address (the port has its own setting)"

    def parse(self, raw: object) -> str:
        text = _text(raw)
        if ":" in text:
            try:
                ipaddress.IPv6Address(text)
            except ValueError:
                raise self.refuse(raw) from None
        elif not re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})", text):
            raise self.refuse(raw)
        return text


class UrlPath(Kind[str]):
    """the path under which clients connect"""

    metavar: ClassVar[str] = "PATH"
    such_as: ClassVar[str] = "/socket.io/"

    @property
    def bounds(self) -> str:
        return "a URL path that begins and ends with '/'"

    def parse(self, raw: object) -> str:
        text = _text(raw)
        if re.fullmatch(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%-]+/)*", text):
            return text
        fixed = f"/{text.strip('/')}/"
        hint = f"; did you mean {fixed!r}?" if re.fullmatch(r"/?[A-Za-z0-9._~/-]+/?", text) else ""
        raise ValueError(f"must be {self.allowed}, not {raw!r}{hint}")


class Target(Kind["str | None"]):
    """what to serve: an attribute of an importable module"""

    metavar: ClassVar[str] = "APP"
    such_as: ClassVar[str] = "chat.server:app"

    @property
    def bounds(self) -> str:
        return "module:attribute"

    def parse(self, raw: object) -> str | None:
        if raw is None:
            return None
        text = _text(raw)
        module, colon, attribute = text.partition(":")
        if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            return text
        raise self.refuse(raw)


class FilePath(Kind["Path | None"]):
    """a file; whether it can be used is found out when it is opened"""

    metavar: ClassVar[str] = "FILE"

    @property
    def bounds(self) -> str:
        return "a file in PEM form"

    def parse(self, raw: object) -> Path | None:
        if raw is None or isinstance(raw, Path):
            return raw
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise self.refuse(raw)
        return Path(raw)

    def plain(self, value: Path | None) -> object:
        return None if value is None else str(value)


class Secret(Kind["str | None"]):
    """text that is never shown"""

    @property
    def bounds(self) -> str:
        return "text"

    def parse(self, raw: object) -> str | None:
        if raw is None or isinstance(raw, str):
            return raw
        raise self.refuse(raw)

    def show(self, value: str | None) -> str:
        return MASK

    def plain(self, value: str | None) -> object:
        return None if value is None else MASK

    def refuse(self, raw: object) -> ValueError:
        return ValueError(f"must be {self.allowed}, not {type(raw).__name__}")


def _text(raw: object) -> str:
    return raw.strip() if isinstance(raw, str) else ""


def _texts(raw: object) -> tuple[str, ...]:
    """Comma-separated text, or a list of texts; anything else is an empty tuple."""
    if isinstance(raw, str):
        parts = [part.strip() for part in raw.split(",")]
        return tuple(part for part in parts if part)
    if isinstance(raw, (list, tuple)) and all(isinstance(part, str) for part in raw):
        return tuple(part.strip() for part in raw)
    return ()


def _whole(raw: object) -> int | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    # 18 digits pass any bound here, and int() of thousands would raise an error of its own.
    if isinstance(raw, str) and re.fullmatch(r"[+-]?[0-9](?:_?[0-9]){0,17}", raw.strip()):
        return int(raw)
    return None


def _either(options: Sequence[str]) -> str:
    return " or ".join((", ".join(options[:-1]), options[-1]))


# --- The table


def setting(default: T, kind: Kind[T], group: str, text: str) -> T:
    """A field of `Settings`. `text` is its help: one sentence without its full stop."""
    metadata = {"kind": kind, "group": group, "text": text}
    return field(default=default, repr=not isinstance(kind, Secret), metadata=metadata)


GROUPS: Mapping[str, str] = {
    "server": "what is served, and where",
    "transports": "how clients stay connected",
    "limits": "bounds on what one client may cost",
    "cors": "which web pages may connect",
    "tls": "HTTPS and wss",
    "log": "what is written to standard error",
}


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
        "What to serve: a gateway.Server, a gateway.Router or an aiohttp Application, as module:attribute",
    )
    host: str = setting("127.0.0.1", Host(), "server", "Address to listen on; 0.0.0.0 or :: for every interface")
    port: int = setting(8000, Whole(0, 65535), "server", "TCP port to listen on; 0 takes any free one")
    backlog: int = setting(1024, Whole(1, 65535), "server", "Connections that the kernel keeps waiting to be accepted")
    path: str = setting("/socket.io/", UrlPath(), "server", "URL path under which clients connect")
    demo: bool = setting(False, Switch(), "server", "Serve the demonstration page and its events")
    uvloop: bool = setting(True, Switch(), "server", "Run on uvloop where it is installed")
    drain_timeout_s: float = setting(
        10.0,
        Duration(0.0),
        "server",
        "Time that clients are given to leave after SIGTERM or SIGINT, before they are cut off",
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
        45.0, Duration(), "transports", "Time that a new session has to join a Socket.IO namespace"
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
        True, Switch(), "transports", "Compress long-polling responses for clients that accept it"
    )

    max_payload_bytes: int = setting(
        1_000_000, Size(), "limits", "Largest incoming message, and largest body of one POST"
    )
    max_buffered_bytes: int = setting(
        4 * 1024**2,
        Size(),
        "limits",
        "Bytes that may wait for one client before it is disconnected as too slow",
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
        for each in SETTINGS:
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
        return _ssl_context(self.certfile, self.keyfile, self.keyfile_password)

    def _values(self) -> dict[str, object]:
        return {each.name: getattr(self, each.name) for each in SETTINGS}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table, with the names it goes by."""

    name: str
    group: str
    kind: Kind[Any]
    default: object
    text: str

    @property
    def is_positional(self) -> bool:
        return isinstance(self.kind, Target)

    @property
    def is_secret(self) -> bool:
        return isinstance(self.kind, Secret)

    @property
    def flag(self) -> str:
        return self.kind.metavar if self.is_positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    def show(self, value: object) -> str:
        return NOT_SET if value is None else self.kind.show(value)


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(each.name, each.metadata["group"], each.metadata["kind"], each.default, each.metadata["text"])
    for each in dataclasses.fields(Settings)
)
BY_NAME: Mapping[str, Setting] = {each.name: each for each in SETTINGS}
BY_VARIABLE: Mapping[str, Setting] = {each.variable: each for each in SETTINGS}


def in_group(group: str) -> list[Setting]:
    """The settings of one TOML table, in the order of the table."""
    return [each for each in SETTINGS if each.group == group]


# --- From sources to settings


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of a setting came from.

    place: the flag, the variable's name or the file's path; empty for a default
    """

    kind: Literal["flag", "environment", "file", "default"]
    place: str = ""

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return f"flag {self.place}" if self.kind == "flag" else self.place

    def locate(self, each: Setting) -> str:
        """The place of this setting, as an error names it."""
        if self.kind == "file":
            return f"{self.place}: [{each.group}] {each.name}"
        return self.place or each.name


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A TOML file that has been read. Relative paths in it are relative to its folder."""

    path: Path
    tables: Mapping[str, object]


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
    values: dict[str, object] = {}
    sources: dict[str, Source] = {}
    problems: list[Problem] = []
    broken: set[str] = set()
    for layer in (_from_argv(argv_values), _from_environ(environ), _from_file(file)):
        for found in layer:
            if isinstance(found, Problem):
                problems.append(found)
                continue
            each, raw, source = found
            try:
                value = each.kind.parse(raw)
            except ValueError as exc:
                problems.append(Problem(each.name, source.locate(each), str(exc)))
                broken.add(each.name)
                continue
            if each.name not in values:
                values[each.name] = _anchored(value, file) if source.kind == "file" else value
                sources[each.name] = source
    for each in SETTINGS:
        values.setdefault(each.name, each.default)
        sources.setdefault(each.name, Source("default"))
    for name, message in _conflicts(values, frozenset(broken)):
        problems.append(Problem(name, sources[name].locate(BY_NAME[name]), message))
    return Resolution(values, sources, tuple(problems))


def read_file(path: Path, named_by: str) -> ConfigFile:
    """The TOML file at `path`.

    named_by: the flag or variable that asked for it, for errors
    Raises: SettingsError when it cannot be read or is not TOML.
    """
    try:
        return ConfigFile(path, tomllib.loads(path.read_bytes().decode()))
    except OSError as exc:
        raise SettingsError([Problem("config", named_by, f"cannot read {path}: {exc.strerror or exc}")]) from None
    except UnicodeDecodeError as exc:
        message = f"is not TOML: byte {exc.start} is not UTF-8"
    except (ValueError, RecursionError) as exc:  # ValueError also for a number of thousands of digits
        message = f"is not TOML: {exc}"
    raise SettingsError([Problem("config", str(path), message)])


Found = tuple[Setting, object, Source]


def _from_argv(argv_values: Mapping[str, object]) -> Iterator[Found | Problem]:
    for name, raw in argv_values.items():
        if name in BY_NAME:
            yield BY_NAME[name], raw, Source("flag", BY_NAME[name].flag)
        else:
            yield Problem(name, name, f"there is no such setting{did_you_mean(name, BY_NAME)}")


def _from_environ(environ: Mapping[str, str]) -> Iterator[Found | Problem]:
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(VARIABLE_PREFIX) or variable == CONFIG_VARIABLE or _is_service(variable, raw):
            continue
        if variable not in BY_VARIABLE:
            hint = did_you_mean(variable, [*BY_VARIABLE, CONFIG_VARIABLE])
            allowed = "" if hint else "; `tidegate serve --help` lists those that there are"
            yield Problem(variable, variable, f"there is no such variable{hint}{allowed}")
        elif raw:  # an empty variable counts as unset, which is how Compose and CI pass on what is missing
            yield BY_VARIABLE[variable], raw, Source("environment", variable)


def _is_service(variable: str, raw: str) -> bool:
    if _SERVICE_VARIABLE.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _SERVICE_ADDRESS.match(raw) is not None


def _from_file(file: ConfigFile | None) -> Iterator[Found | Problem]:
    if file is None:
        return
    source = Source("file", str(file.path))
    for group, table in file.tables.items():
        if group not in GROUPS:
            yield Problem(group, f"{file.path}: {_key(group)}", _unknown_table(group))
        elif not isinstance(table, dict):
            # The type, not the value: [[tls]] in place of [tls] would show the password.
            message = f"must be a table, written [{group}], not {_TOML_TYPES.get(type(table), 'a value')}"
            if group in BY_NAME:
                message += f"; did you mean the key {group!r} under [{BY_NAME[group].group}]?"
            yield Problem(group, f"{file.path}: {group}", message)
        else:
            for key, raw in table.items():
                if key in BY_NAME and BY_NAME[key].group == group:
                    yield BY_NAME[key], raw, source
                else:
                    yield Problem(key, f"{file.path}: [{group}] {_key(key)}", _unknown_key(key, group))


_TOML_TYPES: Mapping[type, str] = {str: "a string", list: "an array", bool: "a boolean", int: "a number"}


def _unknown_table(name: str) -> str:
    if name in BY_NAME:
        return f"belongs under [{BY_NAME[name].group}]"
    hint = did_you_mean(name, GROUPS) or did_you_mean(name, BY_NAME)
    return f"there is no such table{hint}; tables are {', '.join(GROUPS)}"


def _unknown_key(key: str, group: str) -> str:
    if key in BY_NAME:
        return f"belongs under [{BY_NAME[key].group}]"
    names = [each.name for each in in_group(group)]
    hint = did_you_mean(key, names) or did_you_mean(key, BY_NAME)
    return f"there is no such setting{hint}; [{group}] has {', '.join(names)}"


def _key(text: str) -> str:
    """A key as TOML writes it, so that one with odd characters stays on one line."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


def _anchored(value: object, file: ConfigFile | None) -> object:
    return file.path.parent / value if file is not None and isinstance(value, Path) else value


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


# --- TLS


def _ssl_context(certfile: Path, keyfile: Path, password: str | None) -> ssl.SSLContext:
    problems = []
    for name, path in (("certfile", certfile), ("keyfile", keyfile)):
        try:
            with path.open("rb"):
                pass
        except OSError as exc:
            problems.append(Problem(name, name, f"cannot read {path}: {exc.strerror or exc}"))
    if problems:
        raise SettingsError(problems)
    is_asked = False

    def answer() -> str:
        # Without a callback OpenSSL would ask at the terminal, and a service would hang there.
        nonlocal is_asked
        is_asked = True
        return password or ""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile, answer)
    except (ssl.SSLError, ValueError) as exc:
        # ValueError: OpenSSL takes no password of more than 1,024 bytes.
        raise SettingsError([_tls_problem(exc, certfile, keyfile, password if is_asked else None, is_asked)]) from None
    return context


def _tls_problem(exc: Exception, certfile: Path, keyfile: Path, password: str | None, is_encrypted: bool) -> Problem:
    reason = str(getattr(exc, "reason", None) or exc)
    if reason == "KEY_VALUES_MISMATCH":
        return Problem("keyfile", "keyfile", f"{keyfile} is not the key of the certificate in {certfile}")
    if is_encrypted:
        if password is None:
            return Problem("keyfile", "keyfile", f"{keyfile} is encrypted; set keyfile_password")
        return Problem("keyfile_password", "keyfile_password", f"does not open {keyfile}")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_verify_locations(certfile)
    except ssl.SSLError:
        return Problem("certfile", "certfile", f"{certfile} holds no certificate in PEM form ({reason})")
    return Problem("keyfile", "keyfile", f"{keyfile} holds no private key in PEM form that can be used ({reason})")


# --- The reference page


def markdown() -> str:
    """The text of docs/configuration.md: `tidegate config --markdown > docs/configuration.md`."""
    return "\n".join(_markdown_lines()) + "\n"


_PAGE_TOP = f"""\
<!-- Written by `tidegate config --markdown > docs/configuration.md` from gateway/settings.py; edit there. -->

# Configuration

`tidegate serve` takes each setting from the first of these that gives it:

1. a flag: `--ping-interval-s 10s`
2. an environment variable: `TIDEGATE_PING_INTERVAL_S=10s`
3. a TOML file: `ping_interval_s = "10s"` under `[transports]`
4. the default

The file is the one named by `--config FILE`, else by `{CONFIG_VARIABLE}`, else `{DEFAULT_FILE}` in the
working directory if there is one.

`tidegate config` takes the same flags as `tidegate serve`, checks everything that would be used, and prints
each setting with its value and where it came from; `--json` prints the same for programs. Secrets are masked.

Anything unknown or out of bounds is an error: all problems are reported at once, a line each, and the exit
code is 2. A value is checked even where another source overrides it.

## How values are written

- **Times** are numbers of seconds, or text with a unit: `500ms`, `25s`, `2m`, `1h`.
- **Sizes** are numbers of bytes, or text with a unit: `KB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB`
  (powers of 1024).
- **Switches** are `--demo` and `--no-demo` as flags; `true` or `false` (also `yes`, `no`, `on`, `off`, `1`,
  `0`) in variables; `true` or `false` in the file.
- **Lists** are separated by commas in flags and variables, and arrays in the file.
- **Files** named in the TOML file are relative to its folder; elsewhere to the working directory.
- An **empty variable** counts as unset. The variables that Kubernetes adds for a Service whose name begins
  with `tidegate` (`TIDEGATE_SERVICE_HOST`, `TIDEGATE_PORT=tcp://...` and so on) are passed over.

## Settings
"""


def _markdown_lines() -> Iterator[str]:
    yield _PAGE_TOP
    for group, title in GROUPS.items():
        yield f"### `[{group}]`: {title}\n"
        yield "| Setting | Default | Allowed | What it does |"
        yield "| --- | --- | --- | --- |"
        for each in in_group(group):
            names = f"`{each.name}`<br>`{each.flag}`<br>`{each.variable}`"
            default = "not set" if each.default is None else f"`{each.show(each.default)}`"
            allowed = each.kind.bounds.replace("*", "`*`")
            yield f"| {names} | {default} | {allowed} | {each.text}. |"
        yield ""
    yield "## A file with every default\n"
    yield "```toml"
    for group in GROUPS:
        yield f"[{group}]"
        yield from map(_toml_line, in_group(group))
        if group != list(GROUPS)[-1]:
            yield ""
    yield "```"


def _toml_line(each: Setting) -> str:
    if each.default is None:
        return f"# {each.name} = ..."
    if isinstance(each.kind, (Duration, Size)):
        return f"{each.name} = {json.dumps(each.show(each.default))}"
    return f"{each.name} = {json.dumps(each.kind.plain(each.default))}"
