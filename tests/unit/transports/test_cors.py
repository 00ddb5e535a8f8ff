"""Allowed origins, in each form they can be given."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import request
from transports.cors import CorsPolicy, own_origins
from transports.errors import RequestRefused
from transports.refusals import ErrorCode
from transports.request import HttpRequest

PAGE = "https://page.example"


def asked(origin: str | None = PAGE, method: str = "GET", scheme: str = "http", **headers: str) -> HttpRequest:
    given = {"host": "example.org", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if origin is not None:
        given["origin"] = origin
    return request(method=method, headers=given, scheme=scheme)


def refused(policy: CorsPolicy, origin: str = PAGE) -> bool:
    try:
        policy.headers(asked(origin))
    except RequestRefused as refused:
        return (refused.refusal.code, refused.refusal.status) == (ErrorCode.FORBIDDEN, 403)
    return False


@pytest.mark.parametrize("allowed", [None, "*", [], PAGE, [PAGE], lambda origin: False])
def test_request_without_origin_passes(allowed: Any) -> None:
    assert CorsPolicy(allowed, True).headers(asked(None)) == []


def test_none_allows_the_own_origin_alone() -> None:
    policy = CorsPolicy(None, True)
    assert ("Access-Control-Allow-Origin", "http://example.org") in policy.headers(asked("http://example.org"))
    for origin in (PAGE, "https://example.org", "http://example.org:8080", "http://example.org.evil", "null", ""):
        assert refused(policy, origin), origin


def test_own_origin_is_also_what_the_proxy_reports() -> None:
    behind = asked("https://public.example", x_forwarded_proto="https, http", x_forwarded_host="public.example, inner")
    assert own_origins(behind) == ["http://example.org", "https://public.example"]
    assert CorsPolicy(None, True).headers(behind)
    assert own_origins(asked(scheme="https", x_forwarded_proto="http")) == ["https://example.org", "http://example.org"]
    assert own_origins(request(headers={})) == []


def test_star_allows_everybody_but_no_cookies() -> None:
    for allowed in ("*", ["*"], ["*", PAGE]):
        headers = CorsPolicy(allowed, True).headers(asked("https://any.example"))
        assert headers == [("Access-Control-Allow-Origin", "*")]


def test_empty_list_turns_the_check_off() -> None:
    assert CorsPolicy([], True).headers(asked("https://any.example")) == []


@pytest.mark.parametrize("allowed", [PAGE, [PAGE], (PAGE, "https://b.example"), {PAGE}, [PAGE, "null"]])
def test_named_origins_are_reflected_with_credentials(allowed: Any) -> None:
    policy = CorsPolicy(allowed, True)
    assert policy.headers(asked()) == [
        ("Access-Control-Allow-Origin", PAGE),
        ("Vary", "Origin"),
        ("Access-Control-Allow-Credentials", "true"),
    ]
    for origin in ("https://page.example.evil", "http://page.example", PAGE + "/", "https://PAGE.example", "h"):
        assert refused(policy, origin), origin


def test_credentials_can_be_kept_out() -> None:
    names = [name for name, _ in CorsPolicy(PAGE, False).headers(asked())]
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
    assert ("Access-Control-Allow-Origin", PAGE) in policy.headers(asked())
    assert refused(policy, "https://other.example")


def test_refusal_names_the_origins_that_are_allowed() -> None:
    with pytest.raises(RequestRefused, match=r"https://x\.example.*https://a\.example or https://b\.example"):
        CorsPolicy(["https://a.example", "https://b.example"], True).headers(asked("https://x.example"))


def test_preflight_is_told_methods_and_the_headers_it_asked_for() -> None:
    for allowed in ("*", PAGE):
        headers = dict(
            CorsPolicy(allowed, True).headers(asked(method="OPTIONS", access_control_request_headers="X-A, x-b"))
        )
        assert headers["Access-Control-Allow-Methods"] == "OPTIONS, GET, POST"
        assert headers["Access-Control-Allow-Headers"] == "X-A, x-b"
        assert "Access-Control-Max-Age" in headers
    assert "Access-Control-Allow-Headers" not in dict(CorsPolicy(PAGE, True).headers(asked(method="OPTIONS")))
    assert "Access-Control-Allow-Methods" not in dict(CorsPolicy(PAGE, True).headers(asked()))
