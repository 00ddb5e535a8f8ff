"""Allowed origins, in each form they can be given."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import FakeExchange, request
from transports.cors import CorsPolicy, own_origins
from transports.errors import RequestRefused
from transports.forwarded import TrustedProxies
from transports.refusals import ErrorCode
from transports.request import Headers, HttpRequest

PAGE = "https://page.example"


def asked(origin: str | None = PAGE, method: str = "GET", peer: str = "127.0.0.1", **headers: str) -> HttpRequest:
    given = {"host": "example.org", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if origin is not None:
        given["origin"] = origin
    return request(method=method, headers=given, peer=peer, proxies=TrustedProxies("loopback"))


def headers_for(policy: CorsPolicy, asked: HttpRequest) -> Headers:
    exchange = FakeExchange(asked)
    policy.apply(exchange)
    return exchange.extra_headers


def refusal_of(policy: CorsPolicy, asked: HttpRequest) -> str:
    exchange = FakeExchange(asked)
    with pytest.raises(RequestRefused) as caught:
        policy.apply(exchange)
    assert (caught.value.refusal.code, caught.value.refusal.status) == (ErrorCode.FORBIDDEN, 403)
    assert exchange.extra_headers == [("Vary", "Origin")]
    return caught.value.message


def refused(policy: CorsPolicy, origin: str = PAGE) -> bool:
    try:
        headers_for(policy, asked(origin))
    except RequestRefused as refused:
        return (refused.refusal.code, refused.refusal.status) == (ErrorCode.FORBIDDEN, 403)
    return False


@pytest.mark.parametrize("allowed", [None, "*", [], PAGE, [PAGE], lambda origin: False])
def test_request_without_origin_passes(allowed: Any) -> None:
    policy = CorsPolicy(allowed, True)
    # A cache must not give the answer to another page where that would have got another one.
    assert headers_for(policy, asked(None)) == ([] if allowed in ("*", []) else [("Vary", "Origin")])


def test_none_allows_the_own_origin_alone() -> None:
    policy = CorsPolicy(None, True)
    assert ("Access-Control-Allow-Origin", "http://example.org") in headers_for(policy, asked("http://example.org"))
    for origin in (PAGE, "https://example.org", "http://example.org:8080", "http://example.org.evil", "null", ""):
        assert refused(policy, origin), origin


def test_own_origin_is_also_what_a_trusted_proxy_reports() -> None:
    behind = asked("https://public.example", x_forwarded_proto="https", x_forwarded_host="public.example")
    assert own_origins(behind) == ["http://example.org", "https://public.example"]
    assert headers_for(CorsPolicy(None, True), behind)[0] == ("Access-Control-Allow-Origin", "https://public.example")
    assert own_origins(asked(forwarded="proto=https")) == ["http://example.org", "https://example.org"]
    assert own_origins(asked(forwarded="proto=http")) == ["http://example.org"]
    assert own_origins(request(headers={})) == []


def test_own_origin_is_written_as_browsers_do() -> None:
    assert own_origins(asked(host="Example.ORG:80")) == ["http://example.org"]
    assert own_origins(asked(host="[::1]:8080")) == ["http://[::1]:8080"]
    assert own_origins(asked(x_forwarded_proto="https", x_forwarded_host="a:443")) == [
        "http://example.org",
        "https://a",
    ]
    assert own_origins(request(headers={"host": "a:443"}, is_secure=True)) == ["https://a"]


def test_own_origin_is_also_what_the_application_says() -> None:
    assert own_origins(request(headers={"host": "a"}, scheme="https", host="b")) == ["http://a", "https://b"]


def test_refusal_says_which_headers_were_not_believed() -> None:
    policy = CorsPolicy(None, True)
    assert refusal_of(policy, asked("https://example.org", peer="10.0.0.5", x_forwarded_proto="https")) == (
        "https://example.org is not an accepted origin; expected http://example.org "
        "(X-Forwarded-Proto from 10.0.0.5 was not believed: it is not in trusted_proxies)"
    )
    assert "(Forwarded from 127.0.0.1 was malformed)" in refusal_of(policy, asked(forwarded="for=;"))
    assert refusal_of(policy, asked()).endswith("expected http://example.org (see cors_allowed_origins)")
    assert refusal_of(CorsPolicy(["https://a"], True), asked(peer="10.0.0.5", x_forwarded_proto="https")).endswith(
        "expected https://a (see cors_allowed_origins)"
    )


def test_refusal_is_ascii_whatever_was_sent() -> None:
    policy = CorsPolicy(None, True)
    assert refusal_of(policy, asked("http://\udcff\xe4", host="\udcfe")).isascii()
    assert refusal_of(CorsPolicy(["https://\xe4"], True), asked("https://\xe4")).isascii()


@pytest.mark.parametrize("headers", [{"x_forwarded_host": "null"}, {"forwarded": "proto=null;host=null"}, {"host": ""}])
def test_null_is_nobodys_origin_unless_it_is_named(headers: dict[str, str]) -> None:
    assert "null" in refusal_of(CorsPolicy(None, True), asked("null", **headers))
    assert refused(CorsPolicy([PAGE], True), "null")
    assert headers_for(CorsPolicy([PAGE, "null"], True), asked("null"))[0] == ("Access-Control-Allow-Origin", "null")
    assert headers_for(CorsPolicy("*", True), asked("null")) == [("Access-Control-Allow-Origin", "*")]


def test_star_allows_everybody_but_no_cookies() -> None:
    for allowed in ("*", ["*"], ["*", PAGE]):
        headers = headers_for(CorsPolicy(allowed, True), asked("https://any.example"))
        assert headers == [("Access-Control-Allow-Origin", "*")]


def test_empty_list_turns_the_check_off() -> None:
    assert headers_for(CorsPolicy([], True), asked("https://any.example")) == []


@pytest.mark.parametrize("allowed", [PAGE, [PAGE], (PAGE, "https://b.example"), {PAGE}, [PAGE, "null"]])
def test_named_origins_are_reflected_with_credentials(allowed: Any) -> None:
    policy = CorsPolicy(allowed, True)
    assert headers_for(policy, asked()) == [
        ("Access-Control-Allow-Origin", PAGE),
        ("Vary", "Origin"),
        ("Access-Control-Allow-Credentials", "true"),
    ]
    for origin in ("https://page.example.evil", "http://page.example", PAGE + "/", "https://PAGE.example", "h"):
        assert refused(policy, origin), origin


def test_credentials_can_be_kept_out() -> None:
    names = [name for name, _ in headers_for(CorsPolicy(PAGE, False), asked())]
    assert "Access-Control-Allow-Credentials" not in names


def test_single_name_that_holds_a_star_does_not_allow_everybody() -> None:
    policy = CorsPolicy("https://*.example.org", True)
    assert refused(policy, "https://evil.example"), "a pattern in a string has opened the server to every page"


def test_empty_text_does_not_turn_the_check_off() -> None:
    policy = CorsPolicy(os.environ.get("SURELY_NOT_SET", ""), True)
    assert refused(policy, "https://evil.example"), "an empty variable has opened the server to every page"


@pytest.mark.parametrize(
    "function",
    [
        lambda origin: origin == PAGE,
        lambda origin, environ: origin == PAGE and environ["HTTP_HOST"] == "example.org",
    ],
    ids=["origin", "origin and environ"],
)
def test_function_decides(function: Callable[..., bool]) -> None:
    policy = CorsPolicy(function, True)
    assert ("Access-Control-Allow-Origin", PAGE) in headers_for(policy, asked())
    assert refused(policy, "https://other.example")


def test_refusal_names_the_origins_that_are_allowed() -> None:
    with pytest.raises(RequestRefused, match=r"https://x\.example.*https://a\.example or https://b\.example"):
        headers_for(CorsPolicy(["https://a.example", "https://b.example"], True), asked("https://x.example"))


def test_preflight_is_told_methods_and_the_headers_it_asked_for() -> None:
    for allowed in ("*", PAGE):
        headers = dict(
            headers_for(CorsPolicy(allowed, True), asked(method="OPTIONS", access_control_request_headers="X-A, x-b"))
        )
        assert headers["Access-Control-Allow-Methods"] == "OPTIONS, GET, POST"
        assert headers["Access-Control-Allow-Headers"] == "X-A, x-b"
        assert "Access-Control-Max-Age" in headers
    assert "Access-Control-Allow-Headers" not in dict(headers_for(CorsPolicy(PAGE, True), asked(method="OPTIONS")))
    assert "Access-Control-Allow-Methods" not in dict(headers_for(CorsPolicy(PAGE, True), asked()))
