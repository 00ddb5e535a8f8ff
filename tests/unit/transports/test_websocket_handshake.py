"""The opening handshake."""

import pytest

from tests.unit.transports.engine_doubles import KEY, WEBSOCKET_HEADERS, request
from transports.errors import RequestRefused
from transports.protocol.websocket_handshake import accept, asks_for_websocket, check


def test_sample_of_the_rfc_is_answered_as_the_rfc_does() -> None:
    key = check(request(headers=WEBSOCKET_HEADERS))
    assert key == KEY.encode()
    answer = accept(key, b"Set-Cookie: io=1\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert answer.endswith(b"\r\nSet-Cookie: io=1\r\n\r\n")
    assert accept(key).endswith(b"=\r\n\r\n")


def test_names_are_compared_without_case_and_in_lists() -> None:
    headers = {**WEBSOCKET_HEADERS, "connection": "keep-alive, UPGRADE", "upgrade": "WebSocket"}
    assert check(request(headers=headers))


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"connection": "keep-alive"}, 400),
        ({"connection": None}, 400),
        ({"upgrade": "h2c"}, 400),
        ({"upgrade": None}, 400),
        ({"sec-websocket-version": "8"}, 426),
        ({"sec-websocket-version": None}, 426),
        ({"sec-websocket-key": None}, 400),
        ({"sec-websocket-key": ""}, 400),
        ({"sec-websocket-key": "short=="}, 400),
        ({"sec-websocket-key": "A" * 24}, 400),
        ({"sec-websocket-key": "\xfc" * 24}, 400),
        ({"sec-websocket-key": "\u20ac" * 24}, 400),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_malformed_handshakes_are_refused(changed: dict[str, str | None], status: int) -> None:
    headers = {name: value for name, value in {**WEBSOCKET_HEADERS, **changed}.items() if value is not None}
    with pytest.raises(RequestRefused) as caught:
        check(request(headers=headers))
    assert caught.value.refusal.status == status


def test_handshake_is_a_get_of_http_1_1() -> None:
    for options in ({"method": "POST"}, {"http_version": (1, 0)}):
        with pytest.raises(RequestRefused):
            check(request(headers=WEBSOCKET_HEADERS, **options))


def test_any_mention_of_websocket_asks_for_one() -> None:
    assert asks_for_websocket(request(headers={"upgrade": "h2c, WebSocket"}))
    assert not asks_for_websocket(request())
