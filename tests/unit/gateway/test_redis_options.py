"""URLs of Redis."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.brokers.base import BrokerConfigError
from gateway.brokers.redis_options import Address, RedisOptions, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", {"addresses": (Address("localhost", 6379),), "mode": "single", "is_tls": False}),
        ("valkey://h:1", {"addresses": (Address("h", 1),), "is_tls": False}),
        ("rediss://h", {"is_tls": True}),
        ("valkeys://h", {"is_tls": True}),
        ("redis://u:p%40ss@[::1]:7/3", {"addresses": (Address("::1", 7),), "username": "u", "password": "p@ss"}),
        ("redis://u:p@h/3", {"database": 3}),
        ("redis://:secret@h", {"username": None, "password": "secret"}),
        ("redis+unix:///run/redis.sock?database=2", {"addresses": (Address("", 0, "/run/redis.sock"),), "database": 2}),
        (
            "redis+sentinel://a,b:1,[::2]:3/main/4?sentinel_password=x",
            {
                "addresses": (Address("a", 26379), Address("b", 1), Address("::2", 3)),
                "mode": "sentinel",
                "master_name": "main",
                "database": 4,
                "sentinel_password": "x",
            },
        ),
        (
            "rediss+cluster://a,b",
            {"mode": "cluster", "is_tls": True, "addresses": (Address("a", 6379), Address("b", 6379))},
        ),
        (
            "valkey+cluster://a?prefix=x:&settle_s=0.5&stream_max_length=7&verify=no",
            {"prefix": "x:", "settle_s": 0.5, "stream_max_length": 7, "verify": False},
        ),
    ],
)
def test_url_is_read(url: str, expected: dict[str, Any]) -> None:
    options = parse_url(url)
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://h", "begins with"),
        ("localhost:6379", "begins with"),
        ("redis+pool://h", "begins with"),
        ("redis://", "no host"),
        ("redis+unix://", "no host"),
        ("redis://h:port", "cannot be read"),
        ("redis://h:99999", "cannot be read"),
        ("redis://h/zero", "number"),
        ("redis://a,b", "several hosts"),
        ("redis+sentinel://h", "name of the master"),
        ("redis+cluster://h/1", "database 0"),
        ("redis://h?timeout=5", "settle_s"),
        ("redis://h?addresses=x", "no option"),
        ("redis://h?settle_s=soon", "number"),
        ("redis://h?verify=maybe", "yes or no"),
        ("redis://h?canary_timeout_s=0", "above 0"),
        ("redis://h?stream_max_length=0", "1 or more"),
        ("redis://h?prefix={x}", "braces"),
        ("rediss://h?ca_file=/no/such/file", "TLS"),
    ],
)
def test_url_that_makes_no_sense_is_refused_with_the_reason(url: str, word: str) -> None:
    secret = url.replace("//", "//user:hunter2@", 1) if "//" in url else url
    for tried in (url, secret):
        with pytest.raises(BrokerConfigError, match=word) as refused:
            parse_url(tried).ssl_context()
        assert "hunter2" not in str(refused.value)


def test_password_is_not_shown() -> None:
    assert "hunter2" not in repr(parse_url("redis://u:hunter2@h?sentinel_password=hunter2"))


def test_arguments_win_over_the_url() -> None:
    assert parse_url("redis://h?prefix=a:", prefix="b:").prefix == "b:"
    assert RedisOptions((Address("h", 1),)).ssl_context() is None
