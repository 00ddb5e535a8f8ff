"""The xhr-streaming transport, byte by byte. Spec: docs/design/xhr-streaming.md."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support.raw import SEPARATOR, closing
from tests.support.waiting import eventually, timeout_s


async def test_the_response_is_chunked_text_that_stays_open(echo_engine: Any) -> None:
    client = (await echo_engine(ping_interval=0.3, ping_timeout=0.2)).client
    stream = await client.stream()
    async with closing(stream):
        head = stream.head
        assert (head.version, head.status) == ("HTTP/1.1", 200)
        assert head.headers["content-type"] == "text/plain; charset=UTF-8"
        assert head.headers["transfer-encoding"] == "chunked"
        assert head.headers["cache-control"] == "no-store, no-transform"
        assert head.headers["x-accel-buffering"] == "no"
        assert head.headers["x-content-type-options"] == "nosniff"
        assert head.headers["connection"] == "close"
        assert "content-length" not in head.headers
        handshake = await stream.opening()
        assert list(handshake) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
        assert handshake["upgrades"] == ["websocket"]
        assert (handshake["pingInterval"], handshake["pingTimeout"]) == (300, 200)
        assert stream.body.endswith(b"}\x1e")


async def test_what_is_posted_comes_back_in_the_stream(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    stream = await client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        before = len(stream.body)
        assert (await client.post(sid, "4hello\x1ebAQIDBA==\x1e4\x1e4€", "xhr-streaming")).body == b"ok"
        assert [await stream.record() for _ in range(4)] == ["4hello", "bAQIDBA==", "4", "4€"]
        assert stream.body[before:] == "4hello\x1ebAQIDBA==\x1e4\x1e4€\x1e".encode()


@pytest.mark.parametrize("size", [2, 3, 100, 2048, 65536])
async def test_padding_is_a_noop_of_that_many_bytes(echo_engine: Any, size: int) -> None:
    client = (await echo_engine()).client
    stream = await client.stream(padding=size, ack=0)
    async with closing(stream):
        record = await stream.record()
        assert record == "6" + " " * (size - 2)
        assert stream.body[size - 1 : size] == b"\x1e"
        sid = (await stream.opening())["sid"]
        # The next response is padded too, and padding is counted as any record.
        again = await client.stream(sid, padding=size, ack=2)
        async with closing(again):
            assert await again.record() == "6" + " " * (size - 2)


@pytest.mark.parametrize(
    "parameters",
    [
        {"padding": "-1"},
        {"padding": "65537"},
        {"padding": "x"},
        {"padding": ""},
        {"padding": "٣"},
        {"ack": "-1"},
        {"ack": "x"},
        {"ack": ""},
        {"ack": "1.5"},
        {"ack": "9" * 20},
        {"ack": "1"},
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_malformed_handshake_is_refused_and_leaves_nothing(
    echo_engine: Any, parameters: dict[str, str], is_async: bool
) -> None:
    async def accept() -> None:
        return None

    server = await echo_engine(connect=lambda sid, environ: accept() if is_async else None)
    client = server.client
    response = await client.request("GET", client.target(transport="xhr-streaming", **parameters))
    assert (response.status, response.json()["code"]) == (400, 3)
    assert server.engine.sockets == {}


@pytest.mark.parametrize("parameters", [{"padding": "65537"}, {"ack": "x"}])
async def test_a_malformed_parameter_later_is_refused_and_the_session_goes_on(
    echo_engine: Any, parameters: dict[str, str]
) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        response = await client.get(sid, "xhr-streaming", **{"ack": "1", **parameters})
        assert (response.status, response.json()["code"]) == (400, 3)
        assert (await client.post(sid, "4still here", "xhr-streaming")).status == 200
        assert await stream.record() == "4still here"
    assert server.disconnected == []


async def test_an_http_1_0_peer_gets_no_chunks(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(version="1.0", ack=0)
    async with closing(stream):
        assert stream.head.status == 200
        assert "transfer-encoding" not in stream.head.headers
        assert "content-length" not in stream.head.headers
        assert stream.head.headers["connection"] == "close"
        sid = (await stream.opening())["sid"]
        await client.post(sid, "4hello", "xhr-streaming")
        assert await stream.record() == "4hello"
        assert stream.body.startswith(b"0{")
        assert stream.body.endswith(b"}\x1e4hello\x1e")
        await server.engine.disconnect(sid)
        assert await stream.rest() == ["1"]


@pytest.mark.parametrize("counts", [False, True])
async def test_a_response_ends_after_its_bytes_and_the_next_goes_on(echo_engine: Any, counts: bool) -> None:
    server = await echo_engine(stream_max_bytes=1000)
    client = server.client
    received = 0

    def ack() -> dict[str, int]:
        return {"ack": received} if counts else {}

    stream = await client.stream(**ack())
    sid = (await stream.opening())["sid"]
    received += 1
    messages = []
    sent = [f"4{n:03}{'x' * 96}" for n in range(100)]
    for message in sent:
        await client.post(sid, message, "xhr-streaming")
    lengths = []
    while True:
        async with closing(stream):
            try:
                while len(messages) < len(sent):
                    messages.append(await stream.record())
                    received += 1
                assert server.disconnected == []
                break
            except EOFError:
                lengths.append(len(stream.body))
        stream = await client.stream(sid, **ack())
    assert messages == sent
    # A message that is begun is finished.
    assert all(length <= 1000 + 101 for length in lengths)
    assert len(lengths) >= 9


async def test_a_response_that_is_read_as_it_comes_ends_soon_after_its_bytes(echo_engine: Any) -> None:
    server = await echo_engine(stream_max_bytes=1000)
    client = server.client
    stream = await client.stream(ack=0)
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        records = []
        while True:
            await client.post(sid, "4" + "x" * 99, "xhr-streaming")
            try:
                records.append(await stream.record())
            except EOFError:
                break
        assert 1000 <= len(stream.body) <= 1000 + 101
        assert stream.body.endswith(b"\x1e")
        count = len(records) + 1
        again = await client.stream(sid, ack=count)
        async with closing(again):
            assert await again.record() == "4" + "x" * 99
    assert server.disconnected == []


@pytest.mark.parametrize("counts", [False, True])
async def test_a_response_ends_after_its_time(echo_engine: Any, counts: bool) -> None:
    server = await echo_engine(stream_max_s=0.3)
    client = server.client
    received = 1
    sid = None
    for n in range(3):
        began = time.monotonic()
        stream = await client.stream(sid, **({"ack": received if sid else 0} if counts else {}))
        async with closing(stream):
            if sid is None:
                sid = (await stream.opening())["sid"]
            await client.post(sid, f"4{n}", "xhr-streaming")
            assert await stream.rest() == [f"4{n}"]
            received += 1
            # Deadlines are met up to one tick (0.25 s) late.
            assert 0.29 < time.monotonic() - began < 0.55 + timeout_s(1)
    assert server.disconnected == []


async def test_between_two_responses_messages_wait(echo_engine: Any) -> None:
    server = await echo_engine(stream_max_s=0.1)
    client = server.client
    stream = await client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        assert await stream.rest() == []
    for n in range(3):
        await client.post(sid, f"4{n}", "xhr-streaming")
    again = await client.stream(sid)
    async with closing(again):
        assert [await again.record() for _ in range(3)] == ["40", "41", "42"]


# -- a response that is cut --------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [0, 1, 3, 6])
async def test_after_a_cut_exactly_what_was_not_counted_is_repeated(echo_engine: Any, counted: int) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    opening = await stream.record()
    sid = server.connected[0]
    # In payloads of several, so that the cut may fall inside one write.
    await client.post(sid, SEPARATOR.join(f"4{n}" for n in range(3)), "xhr-streaming")
    await client.post(sid, SEPARATOR.join(f"4{n}" for n in range(3, 5)), "xhr-streaming")
    assert [await stream.record() for _ in range(5)] == ["40", "41", "42", "43", "44"]
    stream.abort()
    await eventually(lambda: not server.engine.sockets[sid].port.writable, "the cut")
    await client.post(sid, "45", "xhr-streaming")
    again = await client.stream(sid, ack=counted)
    async with closing(again):
        everything = [opening, "40", "41", "42", "43", "44", "45"]
        assert [await again.record() for _ in range(7 - counted)] == everything[counted:]
        await client.post(sid, "46", "xhr-streaming")
        assert await again.record() == "46"
    assert server.disconnected == []


async def test_a_count_may_replace_a_response_that_is_still_open(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    await client.post(sid, "4a\x1e4b", "xhr-streaming")
    assert [await stream.record(), await stream.record()] == ["4a", "4b"]
    again = await client.stream(sid, ack=2)
    async with closing(stream, again):
        assert await again.record() == "4b"
        assert await stream.rest() == []
        await client.post(sid, "4c", "xhr-streaming")
        assert await again.record() == "4c"
    assert server.disconnected == []


async def test_counts_go_on_over_many_responses(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    count = 1
    expected: list[str] = []
    for n in range(10):
        await client.post(sid, f"4{n}a\x1e4{n}b", "xhr-streaming")
        assert [await stream.record() for _ in range(2)] == [f"4{n}a", f"4{n}b"]
        count += 1  # of the two, the second counts as lost
        stream.abort()
        stream = await client.stream(sid, ack=count)
        assert await stream.record() == f"4{n}b"
        count += 1
        expected += [f"{n}a", f"{n}b"]
    await stream.close()
    assert server.disconnected == []


@pytest.mark.parametrize("wrong", [0, 1, 4, 1000])
async def test_a_count_that_cannot_be_ends_the_session(echo_engine: Any, wrong: int) -> None:
    """2 were acknowledged and 3 sent; what lies outside of that is refused."""
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    await client.post(sid, "4a", "xhr-streaming")
    await stream.record()
    again = await client.stream(sid, ack=2)
    async with closing(stream, again):
        await client.post(sid, "4b", "xhr-streaming")
        assert await again.record() == "4b"
        response = await client.get(sid, "xhr-streaming", ack=wrong)
        assert (response.status, response.json()["code"]) == (400, 3)
    assert server.disconnected == [(sid, "parse error")]
    assert (await client.get(sid, "xhr-streaming", ack=3)).json()["code"] == 1


async def test_who_counted_once_must_go_on(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        assert (await client.get(sid, "xhr-streaming")).status == 400
    assert server.disconnected == [(sid, "parse error")]


async def test_who_did_not_count_cannot_begin_later(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        assert (await client.get(sid, "xhr-streaming", ack=1)).status == 400
    assert server.disconnected == [(sid, "parse error")]


async def test_a_cut_ends_the_session_of_who_does_not_count(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream()
    sid = (await stream.opening())["sid"]
    stream.abort()
    await eventually(lambda: server.disconnected, "disconnect")
    assert server.disconnected == [(sid, "transport close")]
    assert (await client.get(sid, "xhr-streaming")).json()["code"] == 1


async def test_a_second_get_ends_the_session_of_who_does_not_count(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        response = await client.get(sid, "xhr-streaming")
        assert (response.status, response.json()["code"]) == (400, 3)
        assert await stream.rest() == ["1"]
    assert server.disconnected == [(sid, "parse error")]


async def test_a_client_that_counts_is_waited_for_until_its_heartbeat_ends(echo_engine: Any) -> None:
    server = await echo_engine(ping_interval=0.3, ping_timeout=0.2)
    began = time.monotonic()
    stream = await server.client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    stream.abort()
    await eventually(lambda: server.disconnected, "disconnect")
    assert time.monotonic() - began > 0.49
    assert server.disconnected == [(sid, "ping timeout")]


async def test_a_ping_lost_in_a_cut_is_repeated(echo_engine: Any) -> None:
    server = await echo_engine(ping_interval=0.2, ping_timeout=5)
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    assert await stream.record() == "2"
    stream.abort()
    again = await client.stream(sid, ack=1)
    async with closing(again):
        assert await again.record() == "2"
        assert (await client.post(sid, "3", "xhr-streaming")).text == "ok"
        assert await again.record() == "2"
    assert server.disconnected == []


async def test_what_comes_behind_the_request_breaks_the_response(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        await stream.connection.send(b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n")
        assert await stream.connection.has_ended()
    assert server.disconnected == [(sid, "transport close")]


# -- close -------------------------------------------------------------------------------------------------


async def test_a_server_that_closes_ends_the_stream_with_a_close_packet(echo_engine: Any) -> None:
    server = await echo_engine()
    stream = await server.client.stream()
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        await server.engine.send(sid, "last words")
        await server.engine.disconnect(sid)
        assert await stream.rest() == ["4last words", "1"]
        assert await stream.connection.has_ended()
    assert server.disconnected == [(sid, "server disconnect")]


async def test_who_was_closed_between_responses_is_told_in_the_next(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    stream.abort()
    await eventually(lambda: not server.engine.sockets[sid].port.writable, "the cut")
    await server.engine.send(sid, "last words")
    await server.engine.disconnect(sid)
    again = await client.stream(sid, ack=1)
    async with closing(again):
        assert await again.rest() == ["4last words", "1"]
    assert (await client.get(sid, "xhr-streaming", ack=2)).json()["code"] == 1


async def test_a_client_that_closes_ends_its_stream(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        assert (await client.post(sid, "1", "xhr-streaming")).text == "ok"
        assert await stream.rest() == ["6"]
    assert server.disconnected == [(sid, "client disconnect")]


async def test_requests_of_another_transport_are_refused(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    async with closing(stream):
        sid = (await stream.opening())["sid"]
        assert (await client.get(sid)).json()["code"] == 3
        assert (await client.post(sid, "4hello")).json()["code"] == 3
        assert (await client.post(sid, "4hello", "xhr-streaming")).text == "ok"
        assert await stream.record() == "4hello"


# -- upgrades ----------------------------------------------------------------------------------------------


async def test_polling_upgrades_to_xhr_streaming_by_post(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake(transports="polling,xhr-streaming"))["sid"]
    poll = await client.begin("GET", client.target(transport="polling", sid=sid))
    await eventually(lambda: server.engine.sockets[sid].port.writable, "the poll")
    stream = await client.stream(sid, ack=0)
    async with closing(poll, stream):
        assert (await client.post(sid, "2probe", "xhr-streaming")).text == "ok"
        assert await stream.record() == "3probe"
        assert (await poll.read_response()).body == b"6"
        assert (await client.get(sid)).body == b"6"
        assert (await client.post(sid, "4by polling")).text == "ok"
        assert server.engine.transport(sid) == "polling"
        assert (await client.post(sid, "5", "xhr-streaming")).text == "ok"
        assert await stream.record() == "4by polling"
        assert server.engine.transport(sid) == "xhr-streaming"
        assert (await client.post(sid, "4hello", "xhr-streaming")).text == "ok"
        assert await stream.record() == "4hello"
        assert (await client.post(sid, "4late")).status == 400
        assert (await client.get(sid)).status == 400
        assert (await client.post(sid, "4on", "xhr-streaming")).text == "ok"
        assert await stream.record() == "4on"
    assert server.connected == [sid]


async def test_probe_and_upgrade_may_not_share_a_post_with_messages(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    stream = await client.stream(sid, ack=0)
    async with closing(stream):
        await client.post(sid, "2probe\x1e4too early", "xhr-streaming")
        assert (await stream.rest())[0] == "3probe"
    assert server.engine.transport(sid) == "polling"
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"


async def test_after_its_upgrade_a_stream_may_be_cut_and_resumed(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    stream = await client.stream(sid, ack=0)
    await client.post(sid, "2probe", "xhr-streaming")
    assert await stream.record() == "3probe"
    await client.post(sid, "5", "xhr-streaming")
    await client.post(sid, "4a\x1e4b", "xhr-streaming")
    assert [await stream.record(), await stream.record()] == ["4a", "4b"]
    stream.abort()
    again = await client.stream(sid, ack=2)
    async with closing(again):
        assert await again.record() == "4b"
    assert server.disconnected == []


@pytest.mark.parametrize("first", ["4hello", "2", "5", "abc"])
async def test_a_wrong_probe_by_post_fails_the_upgrade_and_not_the_session(echo_engine: Any, first: str) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    stream = await client.stream(sid, ack=0)
    async with closing(stream):
        await client.post(sid, first, "xhr-streaming")
        await stream.rest()
    assert server.engine.transport(sid) == "polling"
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"
    assert server.disconnected == []


async def test_a_probe_without_a_stream_is_refused(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    response = await client.post(sid, "2probe", "xhr-streaming")
    assert (response.status, response.json()["code"]) == (400, 3)
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"
    assert server.disconnected == []


async def test_an_upgrade_to_streaming_that_takes_too_long_is_dropped(echo_engine: Any) -> None:
    server = await echo_engine(upgrade_timeout=0.2, ping_interval=2)
    client = server.client
    sid = (await client.handshake())["sid"]
    stream = await client.stream(sid, ack=0)
    async with closing(stream):
        await client.post(sid, "2probe", "xhr-streaming")
        assert await stream.record() == "3probe"
        await stream.rest()
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"
    assert server.disconnected == []


async def test_streaming_upgrades_to_websocket(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    ws = await client.websocket(sid)
    async with closing(stream, ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        assert await stream.rest() == ["6"]
        between = await client.stream(sid, ack=2)
        async with closing(between):
            assert await between.rest() == ["6"]
        assert (await client.post(sid, "4by post", "xhr-streaming")).text == "ok"
        await ws.send("5")
        assert await ws.text() == "4by post"
        await ws.send("4hello")
        assert await ws.text() == "4hello"
        assert server.engine.transport(sid) == "websocket"
        assert (await client.get(sid, "xhr-streaming", ack=3)).status == 400
        assert (await client.post(sid, "4late", "xhr-streaming")).status == 400
        await ws.send("4on")
        assert await ws.text() == "4on"
    assert server.connected == [sid]


async def test_what_waits_goes_before_the_noop_that_ends_the_stream(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    ws = await client.websocket(sid)
    async with closing(stream, ws):
        await server.engine.send(sid, "one")
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        assert await stream.rest() == ["4one", "6"]
        await server.engine.send(sid, "two")
        between = await client.stream(sid, ack=3)
        async with closing(between):
            assert await between.rest() == ["4two", "6"]
        await server.engine.send(sid, "three")
        await ws.send("5")
        assert await ws.text() == "4three"


async def test_a_failed_upgrade_to_websocket_leaves_the_stream(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        assert await stream.rest() == ["6"]
        ws.abort()
        await eventually(lambda: server.engine.sockets[sid].may_upgrade_to("websocket"), "the end of the upgrade")
    again = await client.stream(sid, ack=2)
    async with closing(stream, again):
        await client.post(sid, "4hello", "xhr-streaming")
        assert await again.record() == "4hello"
    assert server.disconnected == []


async def test_many_streams_at_once_keep_their_messages_apart(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client

    async def one(n: int) -> list[str]:
        stream = await client.stream(ack=0)
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            for i in range(20):
                await client.post(sid, f"4{n}-{i}", "xhr-streaming")
            return [await stream.record() for _ in range(20)]

    found = await asyncio.gather(*(one(n) for n in range(20)))
    assert found == [[f"4{n}-{i}" for i in range(20)] for n in range(20)]
