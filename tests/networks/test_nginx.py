"""The browser client through nginx, as people set it up: what carries the traffic, and that nothing is lost.

Times are printed (``-rP``), never asserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.networks.conftest import Numbers
from tests.support.chromium import Chromium, Page
from tests.support.nginx import Nginx
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.browser

TRANSPORTS = ("websocket", "xhr-streaming", "polling")
COUNT = 1000
#: Where the client ends with all its transports, by the setup and what is changed in it.
CHOICES: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain": ("plain", {}, "websocket"),
    "no_upgrade": ("no_upgrade", {}, "xhr-streaming"),
    "buffering": ("buffering", {}, "xhr-streaming"),
    "buffering_forced": ("buffering_forced", {}, "polling"),
    "buffering_forced, HTTP/1.1": ("buffering_forced", {"keeps_alive": True}, "xhr-streaming"),
    "buffering_forced, upgrade": ("buffering_forced", {"passes_upgrade": True}, "websocket"),
    "short_timeout": ("short_timeout", {}, "websocket"),
    "http2_tls": ("http2_tls", {}, "websocket"),
    "http2_tls, no upgrade": ("http2_tls", {"passes_upgrade": False}, "xhr-streaming"),
}
#: What does not work with that transport alone.
BLOCKED = {
    ("no_upgrade", "websocket"),
    ("buffering", "websocket"),
    ("buffering_forced", "websocket"),
    ("buffering_forced", "xhr-streaming"),
}

CONNECT = """([count, options]) => {
    recorder.connect({reconnection: false, ...options});
    recorder.socket.on('connect', () => {
        recorder.socket.emit('burst', count, 1);
        recorder.send(0, 50);
    });
}"""
TRANSPORT = "recorder.socket.io.engine.transport.name"
ENDED = "recorder.kinds().some((kind) => kind === 'disconnect' || kind === 'connect_error')"


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    print("\n" + "\n".join(rows))


def times(page: Page) -> dict[str, int]:
    """Milliseconds from the beginning to the first of each kind of event."""
    events = page.read("recorder.events")
    begun = next(event["at"] for event in events if event["kind"] == "begin")
    found: dict[str, int] = {}
    for event in events:
        found.setdefault(event["kind"], event["at"] - begun)
    return found


def check_numbers(page: Page, server: Numbers, client: str, count: int) -> None:
    """Each once and in order, in both directions."""
    page.eventually(f"recorder.numbers.length >= {count}", 20)
    assert page.read("recorder.numbers") == [*range(count)]
    page.run("() => recorder.send(50, 100)")
    eventually_sync(lambda: len(server.client(client)["received"]) >= 100, "numbers 0 to 99")
    assert server.client(client)["received"] == [*range(100)]


@pytest.mark.parametrize("case", CHOICES)
def test_the_client_finds_its_transport(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    table: list[str],
    case: str,
) -> None:
    setup, changes, expected = CHOICES[case]
    server = numbers()
    proxy = nginx(server.port, setup, **changes)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        page.run(CONNECT, [COUNT, {}])
        page.eventually(f"{TRANSPORT} === '{expected}'")
        check_numbers(page, server, client_name, COUNT)
        assert page.read(TRANSPORT) == expected
        assert page.read(ENDED) is False
        assert page.errors() == []
        took = times(page)
        table.append(
            f"{case:30} {expected:14} first message {took['first number']:5} ms, "
            f"upgrade {took.get('upgrade', '-'):>5} ms, sent by {server.client(client_name)['sentByTransport']}"
        )


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("setup", ["plain", "no_upgrade", "buffering", "buffering_forced", "http2_tls"])
def test_each_transport_alone(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    setup: str,
    transport: str,
) -> None:
    server = numbers()
    proxy = nginx(server.port, setup)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        page.run(CONNECT, [300, {"transports": [transport]}])
        if (setup, transport) in BLOCKED:
            page.eventually(ENDED)
            assert page.read("recorder.numbers") == []
        else:
            check_numbers(page, server, client_name, 300)
            assert page.read(ENDED) is False
        print(f"{setup:18} {transport:14} {times(page)} {page.read('recorder.events.at(-1).message') or ''}")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pings_shorter_than_the_read_timeout_keep_the_connection(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    transport: str,
) -> None:
    server = numbers(ping_interval=0.3, ping_timeout=10)
    proxy = nginx(server.port, "short_timeout", read_timeout_s=0.9)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        page.run(CONNECT, [10, {"transports": [transport]}])
        page.eventually("recorder.socket.connected")
        eventually_sync(lambda: server.client(client_name)["connections"][0]["lasted"] > 2, "time to pass")
        assert page.read(ENDED) is False
        check_numbers(page, server, client_name, 10)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_a_read_timeout_does_that_is_shorter_than_the_pings(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    transport: str,
) -> None:
    """15 s to 25 s, faster. Streams are taken up again where they were cut, the others end."""
    server = numbers(ping_interval=1.5, ping_timeout=2.0)
    proxy = nginx(server.port, "short_timeout", read_timeout_s=0.9)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        page.run(CONNECT, [10, {"transports": [transport]}])
        page.eventually("recorder.socket.connected")
        eventually_sync(
            lambda: page.read(ENDED) or server.client(client_name)["connections"][0]["lasted"] > 4,
            "an end of the connection, or time to pass",
        )
        assert page.read(ENDED) is (transport != "xhr-streaming")
        if transport == "xhr-streaming":
            check_numbers(page, server, client_name, 10)
        print(transport, page.read("recorder.events.slice(-1)"), server.client(client_name)["connections"])
        print("\n".join(request for request in proxy.requests() if "sid=" in request))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reload_without_a_timeout_leaves_connections(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    transport: str,
) -> None:
    server = numbers()
    proxy = nginx(server.port)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        page.run(CONNECT, [300, {"transports": [transport]}])
        page.eventually("recorder.numbers.length > 50")
        proxy.reload()
        check_numbers(page, server, client_name, 300)
        server.burst(client_name, 100)
        page.eventually("recorder.numbers.length >= 400")
        assert page.read("recorder.numbers") == [*range(400)]
        assert page.read(ENDED) is False


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_a_reload_with_a_timeout_does(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    transport: str,
) -> None:
    """Here too streams go on and the others end; a poll that nothing was sent to as well."""
    server = numbers()
    proxy = nginx(server.port, shutdown_timeout_s=0.2)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        page.run(CONNECT, [10, {"transports": [transport]}])
        page.eventually("recorder.numbers.length === 10")
        eventually_sync(lambda: len(server.client(client_name)["received"]) == 50, "numbers 0 to 49")
        proxy.await_end_of(proxy.reload())
        if transport == "xhr-streaming":
            server.burst(client_name, 100)
            check_numbers(page, server, client_name, 110)
        else:
            page.eventually(ENDED)
        print(transport, page.read("recorder.events.slice(-1)"), server.client(client_name)["connections"])
