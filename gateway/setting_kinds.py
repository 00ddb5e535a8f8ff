"""Kinds of settings: how text or a TOML value becomes a value, what is allowed, and how it is shown."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from transports.forwarded import WORDS, canonical_network

from .setting_problems import did_you_mean

T = TypeVar("T")

TRANSPORTS = ("websocket", "xhr-streaming", "polling")

MASK = "********"


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


class Proxies(Kind["tuple[str, ...]"]):
    """whose headers about the client are believed"""

    metavar: ClassVar[str] = "NETWORK,..."
    such_as: ClassVar[str] = "10.0.0.0/8 or 192.0.2.7"

    @property
    def bounds(self) -> str:
        return f"none, or a list of {', '.join(WORDS)}, IP addresses and networks"

    def parse(self, raw: object) -> tuple[str, ...]:
        names = _texts(raw)
        if isinstance(raw, (list, tuple)) and not raw:
            return ()
        if [name.lower() for name in names] == ["none"]:
            return ()
        if not names:
            raise self.refuse(raw)
        return tuple(dict.fromkeys(map(self._network, names)))

    def _network(self, text: str) -> str:
        try:
            return canonical_network(text)
        except ValueError as exc:
            raise ValueError(f"must be {self.allowed}; {exc}{did_you_mean(text, WORDS)}") from None

    def show(self, value: tuple[str, ...]) -> str:
        return ",".join(value) or "none"

    def plain(self, value: tuple[str, ...]) -> object:
        return list(value)


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


@dataclass(frozen=True, slots=True)
class FilePath(Kind["Path | None"]):
    """a file; whether it can be used is found out when it is opened"""

    metavar: ClassVar[str] = "FILE"
    what: str = "a file in PEM form"

    @property
    def bounds(self) -> str:
        return self.what

    def parse(self, raw: object) -> Path | None:
        if raw is None or isinstance(raw, Path):
            return raw
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise self.refuse(raw)
        return Path(raw)

    def plain(self, value: Path | None) -> object:
        return None if value is None else str(value)


class WorkerCount(Kind["int | str"]):
    """a number of processes, or as many as there are cores"""

    metavar: ClassVar[str] = "N"
    MOST: ClassVar = 1024

    @property
    def bounds(self) -> str:
        return f"a whole number from 1 to {self.MOST}, or auto for one per core"

    def parse(self, raw: object) -> int | str:
        if _text(raw).lower() == "auto":
            return "auto"
        value = _whole(raw)
        if value is None or not 1 <= value <= self.MOST:
            raise self.refuse(raw)
        return value


class ListenAddress(Kind["str | None"]):
    """an address and port to listen on"""

    metavar: ClassVar[str] = "HOST:PORT"
    such_as: ClassVar[str] = "10.0.0.5:7000 or [fd00::5]:7000"

    @property
    def bounds(self) -> str:
        return "an address and a port"

    def parse(self, raw: object) -> str | None:
        if raw is None:
            return None
        host, _, port = _text(raw).rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        number = _whole(port)
        if not bare or (":" in bare) != (bare != host) or number is None or not 0 <= number <= 65535:
            raise self.refuse(raw)
        Host().parse(bare)
        return f"{host}:{number}"


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


class BrokerUrl(Kind["str | None"]):
    """the URL of a broker"""

    metavar: ClassVar[str] = "URL"

    @property
    def bounds(self) -> str:
        return "redis://, redis+sentinel://, redis+cluster://, valkey://, unix:DIRECTORY or memory:"

    def parse(self, raw: object) -> str | None:
        if raw is None:
            return None
        if not isinstance(raw, str) or not raw:
            raise ValueError(f"must be {self.allowed}, not {type(raw).__name__}")
        from .broker_urls import check_broker_url  # here, since it loads the brokers

        try:
            check_broker_url(raw)
        except ValueError as error:  # it does not tell the password
            raise ValueError(f"must be {self.allowed}: {error}") from None
        return raw

    def show(self, value: str | None) -> str:
        return "" if value is None else _PASSWORD.sub(rf"\1{MASK}@", value)

    def plain(self, value: str | None) -> object:
        return None if value is None else self.show(value)


#: Of a URL: what stands between the user and the host.
_PASSWORD = re.compile(r"(//[^/@:]*:)[^/]*@")


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
