"""Every kind of setting: what it understands, and what it says of the rest."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.setting_kinds import Duration, Size
from gateway.settings import BY_NAME, SETTINGS


def parse(name: str, raw: object) -> object:
    return BY_NAME[name].kind.parse(raw)


GOOD: list[tuple[str, object, object]] = [
    ("workers", "auto", "auto"),
    ("workers", "4", 4),
    ("cluster_listen", "10.0.0.5:7000", "10.0.0.5:7000"),
    ("cluster_listen", "[fd00::5]:07000", "[fd00::5]:7000"),
    ("port", "0", 0),
    ("port", " 65535 ", 65535),
    ("port", 80, 80),
    ("demo", True, True),
    ("demo", "Yes", True),
    ("demo", "on", True),
    ("demo", "1", True),
    ("demo", "FALSE", False),
    ("demo", "off", False),
    ("demo", "0", False),
    ("ping_interval_s", "500ms", 0.5),
    ("ping_interval_s", "25s", 25.0),
    ("ping_interval_s", "2m", 120.0),
    ("ping_interval_s", "1.5 m", 90.0),
    ("ping_interval_s", "24h", 86400.0),
    ("ping_interval_s", "25", 25.0),
    ("ping_interval_s", ".05", 0.05),
    ("ping_interval_s", 25, 25.0),
    ("ping_interval_s", 0.05, 0.05),
    ("drain_timeout_s", "0", 0.0),
    ("max_payload_bytes", "1", 1),
    ("max_payload_bytes", 123, 123),
    ("max_payload_bytes", "1_000_000", 1_000_000),
    ("max_payload_bytes", "64KiB", 65536),
    ("max_payload_bytes", "1MiB", 1_048_576),
    ("max_payload_bytes", "2kb", 2000),
    ("max_payload_bytes", "2 MB", 2_000_000),
    ("max_payload_bytes", "1.5MiB", 1_572_864),
    ("max_payload_bytes", "1GiB", 1 << 30),
    ("max_payload_bytes", "7B", 7),
    ("transports", "websocket", ("websocket",)),
    ("transports", " polling , websocket", ("polling", "websocket")),
    ("transports", ["polling", "xhr-streaming"], ("polling", "xhr-streaming")),
    ("trusted_proxies", "Loopback, private", ("loopback", "private")),
    ("trusted_proxies", "192.0.2.7/32,2001:db8::/32,::1", ("192.0.2.7", "2001:db8::/32", "::1")),
    ("trusted_proxies", ["10.0.0.0/8", "10.0.0.0/255.0.0.0"], ("10.0.0.0/8",)),
    ("trusted_proxies", "none", ()),
    ("trusted_proxies", [], ()),
    ("broker", "redis://:secret@127.0.0.1:6380/2", "redis://:secret@127.0.0.1:6380/2"),
    ("broker", "unix:/run/tidegate", "unix:/run/tidegate"),
    ("broker", None, None),
    ("cors_allowed_origins", "same-origin", "same-origin"),
    ("cors_allowed_origins", "*", "*"),
    ("cors_allowed_origins", ["*"], "*"),
    ("cors_allowed_origins", "https://a.example", ("https://a.example",)),
    ("cors_allowed_origins", "https://A.example:443, http://b:80", ("https://a.example", "http://b")),
    ("cors_allowed_origins", ["http://localhost:3000"], ("http://localhost:3000",)),
    ("cors_allowed_origins", "http://[::1]:8080", ("http://[::1]:8080",)),
    ("cors_allowed_origins", "capacitor://localhost", ("capacitor://localhost",)),
    ("host", "0.0.0.0", "0.0.0.0"),
    ("host", "::", "::"),
    ("host", "fe80::1%eth0", "fe80::1%eth0"),
    ("host", "my-host.example", "my-host.example"),
    ("path", "/", "/"),
    ("path", "/a/b-c/", "/a/b-c/"),
    ("app", "chat:app", "chat:app"),
    ("app", "chat.server:make.app", "chat.server:make.app"),
    ("certfile", "a b.pem", Path("a b.pem")),
    ("keyfile_password", " spaces stay ", " spaces stay "),
    ("log_format", "JSON", "json"),
    ("log_level", "warning", "warning"),
]


@pytest.mark.parametrize(("name", "raw", "value"), GOOD)
def test_a_good_value_is_understood(name: str, raw: object, value: object) -> None:
    result = parse(name, raw)
    assert result == value
    assert type(result) is type(value) or isinstance(result, Path)
    assert parse(name, result) == result


BAD: list[tuple[str, object, str]] = [
    ("workers", "0", "must be a whole number from 1 to 1024, or auto for one per core, not '0'"),
    ("cluster_listen", "fd00::5:7000", "must be an address and a port, such as 10.0.0.5:7000 or [fd00::5]:7000"),
    ("port", "65536", "must be a whole number from 0 to 65535, not '65536'"),
    ("port", "-1", "from 0 to 65535"),
    ("port", "80a", "whole number"),
    ("port", "9" * 5000, "whole number"),
    ("port", "٨٠", "whole number"),
    ("port", 80.0, "whole number"),
    ("port", True, "not True"),
    ("port", [80], "whole number"),
    ("backlog", "0", "from 1 to"),
    ("demo", "maybe", "must be true or false, not 'maybe'"),
    ("demo", 1, "true or false"),
    ("ping_interval_s", "49ms", "a time from 50ms to 24h"),
    ("ping_interval_s", "0", "50ms"),
    ("ping_interval_s", "-1", "50ms"),
    ("ping_interval_s", "25 sec", "such as 500ms"),
    ("ping_interval_s", "1d", "such as 500ms"),
    ("ping_interval_s", "inf", "such as 500ms"),
    ("ping_interval_s", "25h", "24h"),
    ("ping_interval_s", math.inf, "24h"),
    ("ping_interval_s", math.nan, "24h"),
    ("ping_interval_s", 10**400, "24h"),
    ("ping_interval_s", True, "not True"),
    ("ping_timeout_s", 0, "from 1ms"),
    ("upgrade_timeout_s", 0.0, "from 1ms"),
    ("connect_timeout_s", "0ms", "from 1ms"),
    ("stream_max_s", "-5s", "from 1ms"),
    ("drain_timeout_s", -1, "from 0s"),
    ("max_payload_bytes", "0", "at least 1"),
    ("max_payload_bytes", "-5", "at least 1"),
    ("max_payload_bytes", "1M", "1MiB or 2MB"),
    ("max_payload_bytes", "1.5B", "number of bytes"),
    ("max_payload_bytes", "1.0", "number of bytes"),
    ("max_payload_bytes", 1e6, "number of bytes"),
    ("max_payload_bytes", True, "not True"),
    ("transports", "websockets", "polling, not 'websockets'; did you mean 'websocket'?"),
    ("transports", "carrier-pigeon", "one or more of websocket, xhr-streaming, polling"),
    ("transports", "polling,polling", "once"),
    ("transports", [], "one or more"),
    ("transports", ",", "one or more"),
    ("transports", ["polling", 1], "one or more"),
    ("transports", True, "one or more"),
    ("broker", "localhost", "a broker is redis://HOST"),
    ("broker", "http://localhost", "begins with redis://"),
    ("broker", "unix:", "followed by the directory"),
    ("broker", "", "must be"),
    ("broker", 5, "must be"),
    ("cors_allowed_origins", "a.example", "did you mean 'https://a.example'?"),
    ("cors_allowed_origins", "same_origin", "did you mean 'same-origin'?"),
    ("cors_allowed_origins", "https://a.example/", "no path, did you mean 'https://a.example'?"),
    ("cors_allowed_origins", "https://a.example/x?y", "no path"),
    ("cors_allowed_origins", "https://*.example", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://me@a.example", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://a.example:0", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://a.example:65536", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://", "scheme://host[:port]"),
    ("cors_allowed_origins", "null", "scheme://host[:port]"),
    ("cors_allowed_origins", "*,https://a.example", "'*' alone"),
    ("cors_allowed_origins", [], "or a list of origins"),
    ("cors_allowed_origins", 5, "or a list of origins"),
    ("host", "", "host name or IP"),
    ("host", "localhost:80", "host name or IP"),
    ("host", "http://a", "host name or IP"),
    ("host", "a b", "host name or IP"),
    ("host", 5, "host name or IP"),
    ("path", "socket.io", "must be a URL path that begins and ends with '/', such as /socket.io/, not '"),
    ("path", "socket.io", "did you mean '/socket.io/'?"),
    ("path", "/socket.io", "did you mean '/socket.io/'?"),
    ("path", "/a?b/", "begins and ends"),
    ("path", "/a b/", "begins and ends"),
    ("path", "//", "begins and ends"),
    ("path", "", "begins and ends"),
    ("path", 5, "begins and ends"),
    ("app", "chat", "must be module:attribute, such as chat.server:app, not 'chat'"),
    ("app", "chat/server.py:app", "module:attribute"),
    ("app", ":app", "module:attribute"),
    ("app", "chat:", "module:attribute"),
    ("app", 5, "module:attribute"),
    ("certfile", "", "a file"),
    ("certfile", "a\0b", "a file"),
    ("certfile", 5, "a file"),
    ("keyfile_password", 12345, "must be text, not int"),
    ("trusted_proxies", "", "none, or a list of loopback, private, IP addresses"),
    ("trusted_proxies", "loopbak", "did you mean 'loopback'?"),
    ("trusted_proxies", "10.0.0.1/8", "did you mean '10.0.0.0/8'?"),
    ("trusted_proxies", "proxy.example", "'proxy.example' is not an IP address"),
    ("trusted_proxies", "none,loopback", "'none' is not an IP address"),
    ("trusted_proxies", ["10.0.0.0/33"], "'10.0.0.0/33' is not an IP address"),
    ("trusted_proxies", 10, "none, or a list"),
    ("log_format", "jsno", "must be text or json, not 'jsno'; did you mean 'json'?"),
    ("log_level", "verbose", "debug, info, warning or error"),
    ("log_level", 10, "debug, info, warning or error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "raw", "message"), BAD)
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|name|have) ") as caught:
        parse(name, raw)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_kind_has_good_and_bad_examples() -> None:
    kinds = {type(each.kind) for each in SETTINGS}
    assert {type(BY_NAME[name].kind) for name, _, _ in GOOD} == kinds
    assert {type(BY_NAME[name].kind) for name, _, _ in BAD} == kinds


def test_password_of_a_broker_is_never_shown() -> None:
    kind = BY_NAME["broker"].kind
    for url in ("redis://:secret@h:1/2?prefix=a:", "redis://me:secret@h1,h2", "redis+sentinel://:secret@h/main"):
        for shown in (kind.show(url), str(kind.plain(url))):
            assert "secret" not in shown
            assert shown.replace("********", "secret") == url
    assert kind.show("unix:/run/tidegate") == "unix:/run/tidegate"


@given(st.floats(0.001, 86400.0))
def test_a_duration_reads_back_as_it_is_shown(value: float) -> None:
    assert Duration().parse(Duration().show(value)) == value


@given(st.integers(1, 1 << 50))
def test_a_size_reads_back_as_it_is_shown(value: int) -> None:
    assert Size().parse(Size().show(value)) == value


@given(st.sampled_from(SETTINGS), st.text() | st.integers() | st.floats() | st.lists(st.text()) | st.booleans())
def test_any_value_is_either_understood_or_refused_by_value_error(each: object, raw: object) -> None:
    kind = BY_NAME[each.name].kind  # type: ignore[attr-defined]
    try:
        value = kind.parse(raw)
    except ValueError:
        return
    assert kind.parse(value) == value
