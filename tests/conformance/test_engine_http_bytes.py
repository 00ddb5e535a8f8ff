"""Engine.IO over HTTP, byte by byte: handshake, refusals, long-polling, JSONP, heartbeat.

Spec: Engine.IO v4.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.support.raw import SEPARATOR, closing, websocket_headers
from tests.support.waiting import TIMEOUT_FACTOR, eventually, timeout_s

BROWSER = {"User-Agent": "Mozilla/5.0"}


# -- handshake ---------------------------------------------------------------------------------------------


async def test_polling_handshake_is_exactly_one_open_packet(echo_engine: Any) -> None:
    client = (await echo_engine(ping_interval=0.3, ping_timeout=0.2, max_http_buffer_size=123_456)).client
    response = await client.request("GET", client.target(transport="polling"))
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; charset=UTF-8"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["content-length"]) == len(response.body)
    assert re.fullmatch(
        rb'0\{"sid":"[A-Za-z0-9_-]{20,}","upgrades":\["websocket"\],'
        rb'"pingInterval":300,"pingTimeout":200,"maxPayload":123456\}',
        response.body,
    )


async def test_websocket_handshake_is_one_open_frame(echo_engine: Any) -> None:
    client = (await echo_engine(ping_interval=0.3, ping_timeout=0.2)).client
    headers = websocket_headers("dGhlIHNhbXBsZSBub25jZQ==")
    connection = await client.begin("GET", client.target(transport="websocket"), headers=headers)
    async with connection:
        head = await connection.read_head()
        assert head.status == 101
        assert head.headers["upgrade"].lower() == "websocket"
        assert head.headers["connection"].lower() == "upgrade"
        # RFC 6455, section 1.3.
        assert head.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "sec-websocket-extensions" not in head.headers
        opcode, size = await connection.read_exactly(2)
        assert opcode == 0x81
        assert size == 126 or size < 126
        length = int.from_bytes(await connection.read_exactly(2), "big") if size == 126 else size
        text = await connection.read_exactly(length)
        handshake = json.loads(text[1:])
        assert text[:1] == b"0"
        assert list(handshake) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
        assert (handshake["upgrades"], handshake["pingInterval"], handshake["pingTimeout"]) == ([], 300, 200)


@pytest.mark.parametrize(
    ("interval", "timeout", "announced"),
    [(25, 20, (25_000, 20_000)), (0.25, 0.123, (250, 123)), (1.5, 0.0005, (1500, 0)), (0.0015, 2.0004, (2, 2000))],
)
async def test_intervals_are_announced_in_milliseconds(
    echo_engine: Any, interval: float, timeout: float, announced: tuple[int, int]
) -> None:
    client = (await echo_engine(ping_interval=interval, ping_timeout=timeout)).client
    handshake = await client.handshake()
    assert (handshake["pingInterval"], handshake["pingTimeout"]) == announced
    assert all(type(handshake[name]) is int for name in ("pingInterval", "pingTimeout", "maxPayload"))


@pytest.mark.parametrize(
    ("known", "offered"),
    [
        (None, ["websocket"]),
        ("polling,websocket", ["websocket"]),
        ("polling,xhr-streaming,websocket", ["xhr-streaming", "websocket"]),
        ("polling,xhr-streaming", ["xhr-streaming", "websocket"]),
        ("xhr-streaming-2", ["websocket"]),
    ],
)
async def test_streaming_is_offered_to_who_names_it(echo_engine: Any, known: str | None, offered: list[str]) -> None:
    client = (await echo_engine()).client
    parameters = {} if known is None else {"transports": known}
    assert (await client.handshake(**parameters))["upgrades"] == offered


async def test_no_upgrade_is_offered_where_none_is_allowed(echo_engine: Any) -> None:
    client = (await echo_engine(allow_upgrades=False)).client
    handshake = await client.handshake(transports="polling,xhr-streaming,websocket")
    assert handshake["upgrades"] == []
    ws = await client.websocket(handshake["sid"])
    async with closing(ws):
        assert await ws.close_code() == 1008
    response = await client.get(handshake["sid"], "xhr-streaming")
    assert (response.status, response.json()["code"]) == (400, 3)
    assert (await client.post(handshake["sid"], "4still here")).text == "ok"
    assert (await client.get(handshake["sid"])).text == "4still here"


async def test_only_the_chosen_transports_are_there(echo_engine: Any) -> None:
    client = (await echo_engine(transports=["polling"])).client
    assert (await client.handshake())["upgrades"] == []
    for transport in ("websocket", "xhr-streaming"):
        response = await client.request("GET", client.target(transport=transport), headers=websocket_headers())
        assert (response.status, response.json()["code"]) == (400, 0)


async def test_the_handshake_sets_the_cookie_it_is_told_to(echo_engine: Any) -> None:
    client = (await echo_engine(cookie="io")).client
    response = await client.request("GET", client.target(transport="polling"))
    sid = json.loads(response.text[1:])["sid"]
    assert response.headers["set-cookie"] == f"io={sid}; path=/; SameSite=Lax"
    assert "set-cookie" not in (await client.post(sid, "4")).headers
    ws = await client.websocket()
    async with closing(ws):
        sid = (await ws.opening())["sid"]
        assert ws.head.headers["set-cookie"] == f"io={sid}; path=/; SameSite=Lax"
    stream = await client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        assert stream.head.headers["set-cookie"] == f"io={sid}; path=/; SameSite=Lax"


async def test_session_ids_are_all_different(echo_engine: Any) -> None:
    server = await echo_engine()
    found = {(await server.client.handshake())["sid"] for _ in range(20)}
    assert len(found) == 20
    assert set(server.engine.sockets) == found


async def test_the_path_works_without_its_last_slash(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    client.path = "/engine.io"
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "4a")).text == "ok"


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "status", "code"),
    [
        ("GET", "", 400, 0),
        ("GET", "EIO=4", 400, 0),
        ("GET", "EIO=4&transport=", 400, 0),
        ("GET", "EIO=4&transport=carrier-pigeon", 400, 0),
        ("GET", "EIO=4&transport=POLLING", 400, 0),
        ("GET", "transport=polling", 400, 5),
        ("GET", "transport=websocket", 400, 5),
        ("GET", "transport=xhr-streaming", 400, 5),
        ("GET", "EIO=3&transport=polling", 400, 5),
        ("GET", "EIO=abc&transport=polling", 400, 5),
        ("GET", "EIO=04&transport=polling", 400, 5),
        ("GET", "EIO=4&EIO=4&transport=polling", 400, 3),
        ("GET", "EIO=4&transport=polling&transport=websocket", 400, 3),
        ("POST", "EIO=4&transport=polling", 400, 2),
        ("PUT", "EIO=4&transport=polling", 400, 2),
        ("DELETE", "EIO=4&transport=polling", 400, 2),
        ("POST", "EIO=4&transport=xhr-streaming", 400, 2),
        ("POST", "EIO=4&transport=websocket", 400, 2),
        ("GET", "EIO=4&transport=polling&sid=unknown", 400, 1),
        ("GET", "EIO=4&transport=polling&sid=", 400, 1),
        ("POST", "EIO=4&transport=polling&sid=unknown", 400, 1),
        ("GET", "EIO=4&transport=xhr-streaming&sid=unknown", 400, 1),
        ("POST", "EIO=4&transport=xhr-streaming&sid=unknown", 400, 1),
        ("GET", "EIO=4&transport=polling&j=alert(1)", 400, 3),
        ("GET", "EIO=4&transport=polling&j=", 400, 3),
        ("GET", "EIO=4&transport=polling&j=%D9%A3", 400, 3),
        ("GET", "EIO=4&transport=websocket", 400, 3),
        ("GET", "EIO=4&transport=%FF", 400, 3),
    ],
)
async def test_refusals_are_json_with_the_reference_server_s_code(
    echo_engine: Any, method: str, query: str, status: int, code: int
) -> None:
    server = await echo_engine()
    client = server.client
    body = b"4hello" if method == "POST" else None
    response = await client.request(method, f"/engine.io/?{query}", body=body)
    assert response.status == status
    assert response.headers["content-type"].partition(";")[0] == "application/json"
    answer = response.json()
    assert list(answer) == ["code", "message"]
    assert answer["code"] == code
    assert answer["message"]
    assert server.engine.sockets == {}


async def test_other_methods_with_a_session_are_refused_and_change_nothing(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    for method in ("PUT", "DELETE", "PATCH"):
        response = await client.request(method, client.target(transport="polling", sid=sid))
        assert (response.status, response.json()["code"]) == (400, 2)
    assert (await client.post(sid, "4a")).text == "ok"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAAAA"}, 400),
        ({"Connection": "keep-alive"}, 400),
        ({"Upgrade": "h2c"}, 400),
    ],
)
async def test_a_malformed_websocket_handshake_is_refused(
    echo_engine: Any, changed: dict[str, str], status: int
) -> None:
    server = await echo_engine()
    client = server.client
    target = client.target(transport="websocket")
    response = await client.request("GET", target, headers={**websocket_headers(), **changed})
    assert response.status == status
    assert response.json()["code"] == 3
    if status == 426:
        assert response.headers["sec-websocket-version"] == "13"
    assert server.engine.sockets == {}


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming"])
async def test_a_websocket_handshake_for_another_transport_is_refused(echo_engine: Any, transport: str) -> None:
    client = (await echo_engine()).client
    response = await client.request("GET", client.target(transport=transport), headers=websocket_headers())
    assert (response.status, response.json()["code"]) == (400, 3)


async def test_a_websocket_for_an_unknown_session_is_refused(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    target = client.target(transport="websocket", sid="unknown")
    response = await client.request("GET", target, headers=websocket_headers())
    assert (response.status, response.json()["code"]) == (400, 1)


async def _later(answer: Any) -> Any:
    await asyncio.sleep(0)
    return answer


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_who_the_application_refuses_gets_401(echo_engine: Any, transport: str, is_async: bool) -> None:
    server = await echo_engine(connect=lambda sid, environ: _later("go away") if is_async else "go away")
    client = server.client
    headers = websocket_headers() if transport == "websocket" else None
    response = await client.request("GET", client.target(transport=transport), headers=headers)
    assert response.status == 401
    assert response.json() == {"code": 4, "message": "go away"}
    assert server.engine.sockets == {}
    assert server.disconnected == []


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
@pytest.mark.parametrize("is_accepted", [True, False])
async def test_who_leaves_before_the_application_has_answered_leaves_nothing(
    echo_engine: Any, transport: str, is_accepted: bool
) -> None:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    server = await echo_engine(connect=lambda sid, environ: answer)
    client = server.client
    headers = websocket_headers() if transport == "websocket" else None
    connection = await client.begin("GET", client.target(transport=transport), headers=headers)
    await eventually(lambda: server.connected, "the connect handler")
    connection.abort()
    # Another request shows that the loop has seen the end of that one.
    await client.request("GET", "/engine.io/")
    answer.set_result(None if is_accepted else "go away")
    await eventually(lambda: not server.engine.sockets, "the end of the session")
    # Who was accepted has a disconnect handler to hear of it; who was not has none.
    expected = [(server.connected[0], "transport close")] if is_accepted else []
    await eventually(lambda: server.disconnected == expected, f"{expected}; it is {server.disconnected}")


async def test_a_page_of_another_origin_is_refused(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    headers = {"Origin": "https://evil.example"}
    response = await client.request("GET", client.target(transport="polling"), headers=headers)
    assert (response.status, response.json()["code"]) == (403, 4)
    assert "access-control-allow-origin" not in response.headers
    response = await client.request(
        "GET", client.target(transport="polling"), headers={"Origin": "http://test.example"}
    )
    assert response.status == 200
    assert response.headers["access-control-allow-origin"] == "http://test.example"


async def test_an_allowed_origin_gets_its_preflight_answered(echo_engine: Any) -> None:
    client = (await echo_engine(cors_allowed_origins=["https://app.example"])).client
    response = await client.request(
        "OPTIONS",
        client.target(transport="polling", sid="any"),
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-token",
        },
    )
    assert (response.status, response.body) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert response.headers["access-control-allow-headers"] == "x-token"
    assert response.headers["access-control-allow-credentials"] == "true"
    assert {"GET", "POST"} <= set(response.headers["access-control-allow-methods"].replace(" ", "").split(","))


# -- long-polling ------------------------------------------------------------------------------------------


async def test_text_goes_and_comes_as_one_packet(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    posted = await client.post(sid, "4hello")
    assert (posted.status, posted.body) == (200, b"ok")
    assert posted.headers["content-type"].startswith("text/")
    polled = await client.get(sid)
    assert (polled.status, polled.body) == (200, b"4hello")
    assert polled.headers["content-type"] == "text/plain; charset=UTF-8"


@pytest.mark.parametrize("text", ["", "utf-8 string: \x00 ö € 😀", "4", "b", '"quoted"\\n', "\r\n"])
async def test_any_text_comes_back_unchanged(echo_engine: Any, text: str) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "4" + text)).text == "ok"
    assert (await client.get(sid)).body == b"4" + text.encode()


async def test_binary_is_base64_behind_a_b(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "bAQIDBA==")).text == "ok"
    assert (await client.get(sid)).body == b"bAQIDBA=="
    assert (await client.post(sid, "b")).text == "ok"
    assert (await client.get(sid)).body == b"b"


async def test_several_packets_share_a_payload_in_order(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    payload = "4one\x1ebAQI=\x1e4\x1e4€"
    assert (await client.post(sid, payload)).text == "ok"
    assert (await client.get(sid)).body == payload.encode()


async def test_a_payload_for_an_unknown_client_has_16_packets_and_for_a_browser_all(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sent = [f"4{n}" for n in range(40)]
    sid = (await client.handshake())["sid"]
    await client.post(sid, SEPARATOR.join(sent))
    payloads = [(await client.get(sid)).text.split(SEPARATOR) for _ in range(3)]
    assert [len(payload) for payload in payloads] == [16, 16, 8]
    assert [packet for payload in payloads for packet in payload] == sent
    response = await client.request("GET", client.target(transport="polling"), headers=BROWSER)
    sid = json.loads(response.text[1:])["sid"]
    await client.post(sid, SEPARATOR.join(sent))
    assert (await client.get(sid)).text.split(SEPARATOR) == sent


async def test_a_waiting_poll_is_answered_when_something_comes(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    async with await client.begin("GET", client.target(transport="polling", sid=sid)) as poll:
        assert (await client.post(sid, "4now")).text == "ok"
        assert (await poll.read_response()).text == "4now"


async def test_requests_may_follow_each_other_on_one_connection(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    async with await client.begin("POST", client.target(transport="polling", sid=sid), body=b"4a") as connection:
        assert (await connection.read_response()).text == "ok"
        for n in range(5):
            await connection.request("POST", client.target(transport="polling", sid=sid), body=b"4%d" % n)
            assert (await connection.read_response()).text == "ok"
        await connection.request("GET", client.target(transport="polling", sid=sid))
        assert (await connection.read_response()).text == SEPARATOR.join(["4a", "40", "41", "42", "43", "44"])
        assert (await client.handshake())["sid"] != sid


async def test_a_chunked_post_is_read_whole(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    target = client.target(transport="polling", sid=sid)
    async with await client.begin("POST", target, headers={"Transfer-Encoding": "chunked"}) as connection:
        for part in (b"2\r\n4h\r\n", b"4\r\nello\r\n", b"0\r\n\r\n"):
            await connection.send(part)
        assert (await connection.read_response()).text == "ok"
    assert (await client.get(sid)).text == "4hello"


async def test_large_payloads_are_compressed_for_who_takes_gzip(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    await client.post(sid, "4" + "x" * 5000)
    target = client.target(transport="polling", sid=sid)
    response = await client.request("GET", target, headers={"Accept-Encoding": "gzip, deflate"})
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(response.body) == b"4" + b"x" * 5000
    await client.post(sid, "4" + "x" * 5000)
    response = await client.request("GET", target, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in response.headers
    assert len(response.body) == 5001


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"7",
        b"\x1e",
        b"4a\x1e",
        b"\x1e4a",
        b"4\xff",
        b"b!!!",
        b"bAQI",
        b"bAQI==",
        b"\xd9\xa34",
        b"0",
        b"2",
        b"5",
    ],
)
async def test_what_is_no_payload_is_refused_and_ends_the_session(echo_engine: Any, body: bytes) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    response = await client.post(sid, body)
    assert (response.status, response.json()["code"]) == (400, 3)
    response = await client.get(sid)
    assert (response.status, response.json()["code"]) == (400, 1)
    assert server.disconnected == [(sid, "parse error")]


async def test_a_post_over_the_limit_is_refused_and_ends_the_session(echo_engine: Any) -> None:
    server = await echo_engine(max_http_buffer_size=1000)
    client = server.client
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "4" + "x" * 999)).text == "ok"
    response = await client.post(sid, "4" + "x" * 1000)
    assert response.status == 413
    assert (await client.get(sid)).status == 400
    assert server.disconnected == [(sid, "parse error")]


async def test_a_second_poll_is_refused_and_ends_the_session(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    async with await client.begin("GET", client.target(transport="polling", sid=sid)) as first:
        # Requests to a session without answer cannot be told from those still on their way.
        await eventually(lambda: server.engine.sockets[sid].port.writable, "the first poll")
        assert (await client.get(sid)).status == 400
        response = await first.read_response()
        assert (response.status, response.body) == (200, b"1")
    assert (await client.get(sid)).status == 400
    assert len(server.disconnected) == 1


async def test_a_second_post_is_refused_and_ends_the_session(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    target = client.target(transport="polling", sid=sid)
    async with await client.begin("POST", target, headers={"Content-Length": "100"}) as first:
        await first.send(b"4half")
        session = server.engine.sockets[sid]
        await eventually(lambda: session.intake._posting, "the first POST")
        assert (await client.post(sid, "4whole")).status == 400
    assert (await client.get(sid)).status == 400
    assert server.disconnected == [(sid, "parse error")]


async def test_a_post_that_breaks_off_leaves_the_session_usable(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    target = client.target(transport="polling", sid=sid)
    broken = await client.begin("POST", target, headers={"Content-Length": "100"})
    await broken.send(b"4half")
    session = server.engine.sockets[sid]
    await eventually(lambda: session.intake._posting, "the POST")
    broken.abort()
    await eventually(lambda: not session.intake._posting, "its end")
    assert (await client.post(sid, "4whole")).text == "ok"
    assert (await client.get(sid)).text == "4whole"


async def test_a_cancelled_poll_ends_the_session(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    poll = await client.begin("GET", client.target(transport="polling", sid=sid))
    await eventually(lambda: server.engine.sockets[sid].port.writable, "the poll")
    poll.abort()
    await eventually(lambda: server.disconnected, "disconnect")
    assert server.disconnected == [(sid, "transport close")]
    response = await client.get(sid)
    assert (response.status, response.json()["code"]) == (400, 1)


async def test_a_client_that_closes_ends_its_poll_with_a_noop(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    async with await client.begin("GET", client.target(transport="polling", sid=sid)) as poll:
        await eventually(lambda: server.engine.sockets[sid].port.writable, "the poll")
        assert (await client.post(sid, "1")).text == "ok"
        response = await poll.read_response()
        assert (response.status, response.body) == (200, b"6")
    assert server.disconnected == [(sid, "client disconnect")]
    assert (await client.get(sid)).json()["code"] == 1


async def test_a_server_that_closes_ends_the_poll_with_a_close_packet(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    async with await client.begin("GET", client.target(transport="polling", sid=sid)) as poll:
        await eventually(lambda: server.engine.sockets[sid].port.writable, "the poll")
        await server.engine.disconnect(sid)
        assert (await poll.read_response()).body == b"1"
    assert server.disconnected == [(sid, "server disconnect")]


async def test_who_was_closed_between_polls_is_told_at_the_next(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    await server.engine.send(sid, "last words")
    await server.engine.disconnect(sid)
    assert (await client.get(sid)).text == "4last words\x1e1"
    assert (await client.get(sid)).json()["code"] == 1


# -- heartbeat ---------------------------------------------------------------------------------------------


async def test_a_poll_gets_a_ping_each_interval(echo_engine: Any) -> None:
    server = await echo_engine(ping_interval=0.3, ping_timeout=0.2 * TIMEOUT_FACTOR)
    client = server.client
    sid = (await client.handshake())["sid"]
    began = time.monotonic()
    for n in range(1, 4):
        assert (await client.get(sid)).body == b"2"
        assert 0.28 * n < time.monotonic() - began < 0.3 * n + timeout_s(1)
        assert (await client.post(sid, "3")).text == "ok"
    assert server.disconnected == []


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
async def test_who_does_not_answer_a_ping_is_gone(echo_engine: Any, transport: str) -> None:
    server = await echo_engine(ping_interval=0.3, ping_timeout=0.2)
    client = server.client
    began = time.monotonic()
    if transport == "polling":
        sid = (await client.handshake())["sid"]
        assert (await client.get(sid)).body == b"2"
    elif transport == "websocket":
        ws = await client.websocket()
        async with closing(ws):
            sid = (await ws.opening())["sid"]
            assert await ws.text() == "2"
            assert await ws.close_code() == 1001
    else:
        stream = await client.stream()
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            assert [await stream.record(), *await stream.rest()] == ["2", "1"]
    await eventually(lambda: server.disconnected, "disconnect")
    assert 0.49 < time.monotonic() - began < 0.5 + timeout_s(1)
    assert server.disconnected == [(sid, "ping timeout")]
    assert (await client.get(sid)).json()["code"] == 1
    assert server.engine.sockets == {}


async def test_a_client_that_never_polls_is_gone_after_interval_and_timeout(echo_engine: Any) -> None:
    server = await echo_engine(ping_interval=0.3, ping_timeout=0.2)
    began = time.monotonic()
    sid = (await server.client.handshake())["sid"]
    await eventually(lambda: server.disconnected, "disconnect")
    assert 0.49 < time.monotonic() - began < 0.5 + timeout_s(1)
    assert server.disconnected == [(sid, "ping timeout")]


@pytest.mark.parametrize("transport", ["xhr-streaming", "websocket"])
async def test_pings_and_pongs_go_on(echo_engine: Any, transport: str) -> None:
    server = await echo_engine(ping_interval=0.1, ping_timeout=0.2 * TIMEOUT_FACTOR)
    client = server.client
    if transport == "websocket":
        ws = await client.websocket()
        async with closing(ws):
            await ws.opening()
            for _ in range(5):
                assert await ws.text() == "2"
                await ws.send("3")
    else:
        stream = await client.stream()
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            for _ in range(5):
                assert await stream.record() == "2"
                assert (await client.post(sid, "3", "xhr-streaming")).text == "ok"
            assert server.disconnected == []


async def test_messages_do_not_stand_for_a_pong(echo_engine: Any) -> None:
    server = await echo_engine(ping_interval=0.2, ping_timeout=0.2)
    ws = await server.client.websocket()
    async with closing(ws):
        await ws.opening()
        assert await ws.text() == "2"
        await ws.send("4hello")
        assert await ws.text() == "4hello"
        assert await ws.close_code() == 1001


# -- JSONP -------------------------------------------------------------------------------------------------


def jsonp_payload(script: bytes, index: int) -> str:
    """The payload of a JSONP answer, read as a browser would, and checked to be safe inside a page."""
    head = f"___eio[{index}](".encode()
    assert script.startswith(head)
    assert script.endswith(b");")
    literal = script[len(head) : -2]
    assert literal.isascii()
    assert b"<" not in literal
    assert b"/" not in literal
    payload: str = json.loads(literal)
    return payload


async def test_jsonp_carries_the_payload_as_argument_of_a_call(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    response = await client.request("GET", client.target(transport="polling", j=0))
    assert response.headers["content-type"] == "text/javascript; charset=UTF-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    opening = jsonp_payload(response.body, 0)
    sid = json.loads(opening[1:])["sid"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post(sid, "d=4hello", headers=form, j=1)).text == "ok"
    assert jsonp_payload((await client.get(sid, j=12)).body, 12) == "4hello"


HARD = "\"'\\ </script><!-- \u2028\u2029 é 😀 \x00\t\x7f &amp; =+%41"


async def test_jsonp_escapes_what_would_leave_the_script(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    response = await client.request("GET", client.target(transport="polling", j=0))
    sid = json.loads(jsonp_payload(response.body, 0)[1:])["sid"]
    await client.post(sid, "d=" + quote_plus("4" + HARD), j=0)
    assert jsonp_payload((await client.get(sid, j=1)).body, 1) == "4" + HARD


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        ("d=4a%5Cnb", "4a\nb"),  # a newline, escaped by the form
        ("d=4a%5C%5Cnb", "4a\\nb"),  # a backslash and an n
        ("d=4a+b", "4a b"),
        ("d=4a%2Bb", "4a+b"),
        ("d=4%26d%3D4", "4&d=4"),
        ("d=4%E2%82%AC", "4€"),
        ("d=4a%1E4b", "4a\x1e4b"),
        ("d=bAQIDBA%3D%3D", "bAQIDBA=="),
        ("d=4a%0Ab", "4a\nb"),
        ("x=1&d=4", "4"),
    ],
)
async def test_jsonp_posts_are_forms(echo_engine: Any, form: str, payload: str) -> None:
    client = (await echo_engine()).client
    response = await client.request("GET", client.target(transport="polling", j=0))
    sid = json.loads(jsonp_payload(response.body, 0)[1:])["sid"]
    assert (await client.post(sid, form, j=0)).text == "ok"
    assert jsonp_payload((await client.get(sid, j=0)).body, 0) == payload


@pytest.mark.parametrize("form", ["", "4hello", "x=4hello", "d=", "d=%FF", "d=4&a=&b=&c=&e=&f="])
async def test_jsonp_posts_without_a_payload_are_refused(echo_engine: Any, form: str) -> None:
    client = (await echo_engine()).client
    response = await client.request("GET", client.target(transport="polling", j=0))
    sid = json.loads(jsonp_payload(response.body, 0)[1:])["sid"]
    assert (await client.post(sid, form, j=0)).status == 400
    assert (await client.get(sid, j=0)).status == 400
