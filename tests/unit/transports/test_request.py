"""Query parameters and the environ dictionary."""

import pytest

from tests.unit.transports.engine_doubles import request
from transports.errors import RequestRefused
from transports.forwarded import Client, TrustedProxies
from transports.refusals import ErrorCode
from transports.request import HttpRequest


def test_parameters_are_decoded() -> None:
    asked = request("EIO=4&t=a%20b+c&empty=&sid=%E2%82%AC")
    assert asked.parameter("EIO") == "4"
    assert asked.parameter("t") == "a b c"
    assert asked.parameter("empty") == ""
    assert asked.parameter("sid") == "\u20ac"
    assert asked.parameter("missing") is None


def test_request_without_query_has_no_parameters() -> None:
    assert HttpRequest("GET", "/engine.io", {}).parameter("EIO") is None


def test_parameter_that_is_repeated_is_refused_and_others_are_not() -> None:
    asked = request("sid=a&sid=b&EIO=4&foo=1&foo=2")
    assert asked.parameter("EIO") == "4"
    for name in ("sid", "foo"):
        with pytest.raises(RequestRefused) as caught:
            asked.parameter(name)
        assert (caught.value.refusal.code, caught.value.refusal.status) == (ErrorCode.BAD_REQUEST, 400)


@pytest.mark.parametrize("query", ["sid=%ff", "&".join(f"a{number}=1" for number in range(101))])
def test_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        request(query).parameter("EIO")
    assert caught.value.refusal.code == ErrorCode.BAD_REQUEST


def test_path_and_query_are_parts_of_the_target() -> None:
    asked = HttpRequest("GET", "/a%20b/?x=1?2", {})
    assert asked.path == "/a b/"
    assert asked.query_string == "x=1?2"


def test_environ_has_the_keys_that_python_socketio_gives() -> None:
    environ = request(
        "EIO=4",
        "POST",
        {"host": "example.org:8080", "content-type": "text/plain", "content-length": "3", "x-user-id": "7"},
        http_version=(1, 0),
        scheme="https",
        remote="192.0.2.1",
        extras={"aiohttp.request": 1},
    ).environ()
    expected = {
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "EIO=4",
        "RAW_URI": "/engine.io/?EIO=4",
        "PATH_INFO": "/engine.io/",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "192.0.2.1",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "example.org:8080",
        "HTTP_X_USER_ID": "7",
        "wsgi.url_scheme": "https",
        "aiohttp.request": 1,
    }
    assert expected.items() <= environ.items()
    assert "HTTP_CONTENT_TYPE" not in environ


@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_environ_knows_the_port_of_the_scheme(scheme: str, port: str) -> None:
    assert request(scheme=scheme).environ()["SERVER_PORT"] == port


@pytest.mark.parametrize(
    ("host", "name", "port"), [("[2001:db8::1]:8000", "[2001:db8::1]", "8000"), ("[::1]", "[::1]", "80")]
)
def test_environ_splits_an_ipv6_host(host: str, name: str, port: str) -> None:
    environ = request(headers={"host": host}).environ()
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_header_with_underscores_does_not_pass_for_one_with_dashes() -> None:
    headers = {"host": "a", "x-real-ip": "192.0.2.1", "x_real_ip": "203.0.113.9"}
    environ = request(headers=headers).environ()
    assert environ["HTTP_X_REAL_IP"] == "192.0.2.1", "a client could pass for what the proxy in front said"


PROXIES = TrustedProxies("loopback")
FORWARDED = {"host": "inner:8000", "forwarded": "for=192.0.2.1;proto=https;host=app.example"}


def test_client_is_who_a_trusted_proxy_says() -> None:
    asked = request(headers=FORWARDED, peer="127.0.0.1", proxies=PROXIES)
    assert (asked.remote, asked.scheme, asked.host) == ("192.0.2.1", "https", "app.example")
    assert (asked.peer, asked.is_secure) == ("127.0.0.1", False)
    environ = asked.environ()
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("192.0.2.1", "https")
    assert (environ["HTTP_HOST"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("inner:8000", "inner", "8000")


def test_client_is_the_peer_where_nobody_is_trusted() -> None:
    for proxies in (None, TrustedProxies([])):
        asked = request(headers=FORWARDED, peer="127.0.0.1", is_secure=True, proxies=proxies)
        assert (asked.remote, asked.scheme, asked.host) == ("127.0.0.1", "https", "inner:8000")


def test_what_the_application_says_stands() -> None:
    asked = request(headers=FORWARDED, peer="127.0.0.1", proxies=PROXIES, remote="198.51.100.1")
    assert (asked.remote, asked.scheme, asked.host) == ("198.51.100.1", "https", "app.example")
    asked = request(headers=FORWARDED, peer="127.0.0.1", proxies=PROXIES, scheme="http", host="b")
    assert (asked.remote, asked.scheme, asked.host) == ("192.0.2.1", "http", "b")


def test_client_is_not_looked_for_until_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request("EIO=4", headers=FORWARDED, peer="127.0.0.1", proxies=PROXIES)
    looked = []
    monkeypatch.setattr(TrustedProxies, "client", lambda *_: looked.append(1) or Client("a", "b", "c"))
    asked.parameter("EIO")
    assert looked == []
    assert (asked.remote, asked.scheme, asked.host) == ("a", "b", "c")
    assert looked == [1]


def test_query_with_bytes_that_are_not_ascii_is_refused() -> None:
    for query in ("EIO=4&x=\xe4", "EIO=\udcff"):
        with pytest.raises(RequestRefused):
            request(query).parameter("EIO")
