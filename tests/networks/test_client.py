"""``tidegate.connect()`` through nginx and through faults: every number once and in order, both ways.

The server recovers clients and de-duplicates what they send; reloads of nginx and faults cut connections in the midst
of the numbers. What carried them, and how long it took, is printed (``-rP``), never asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.networks.conftest import Numbers
from tests.support.chromium import Chromium, Page
from tests.support.nginx import Nginx
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.browser

COUNT = 1000
EVERY_MS = 4
#: Where the client ends, by the setup and what is changed in it. ``cuts``: whether a reload cuts its connection.
SETUPS: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain proxy": ("plain", {}, "websocket"),
    "no WebSocket upgrade": ("no_upgrade", {}, "xhr-streaming"),
    "proxy_buffering on": ("buffering", {}, "xhr-streaming"),
    "proxy_buffering forced": ("buffering_forced", {}, "polling"),
    "read timeout": ("short_timeout", {"read_timeout_s": 2}, "websocket"),
    "HTTP/2, TLS": ("http2_tls", {}, "websocket"),
    "HTTP/2, TLS, no upgrade": ("http2_tls", {"passes_upgrade": False}, "xhr-streaming"),
}
OPTIONS: dict[str, Any] = {"recovery_s": 60, "ping_interval": 5, "ping_timeout": 4}
STATE = "recorder.states.at(-1)"


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    print("\n" + "\n".join(rows))


def open_client(page: Page, server: Numbers, name: str, options: dict[str, Any] | None = None) -> None:
    page.run("(options) => recorder.open(options)", options or {})
    page.eventually("recorder.states.at(-1).startsWith('connected')")
    eventually_sync(lambda: server.client(name)["connections"], "the connection at the server")


def check_numbers(page: Page, server: Numbers, name: str, down: int, up: int) -> None:
    """Each once and in order, in both directions."""
    page.eventually(f"recorder.numbers.length >= {down}", 40)
    eventually_sync(lambda: len(server.client(name)["received"]) >= up, f"{up} numbers at the server", 40)
    page.eventually("recorder.tidegate.outbox.size === 0")
    assert page.read("recorder.numbers") == [*range(down)]
    assert server.client(name)["received"] == [*range(up)]
    assert page.read("recorder.failed") == []
    assert page.read("recorder.recovered.no") == 0
    assert page.errors() == []


@pytest.mark.parametrize("case", SETUPS)
def test_numbers_pass_nginx_while_it_is_reloaded(
    chromium: Chromium,
    numbers: Callable[..., Numbers],
    nginx: Callable[..., Nginx],
    client_name: str,
    table: list[str],
    case: str,
) -> None:
    """The reload cuts what is open after half a second, so that all transports but a stream have to come back."""
    setup, changes, expected = SETUPS[case]
    server = numbers(**OPTIONS)
    proxy = nginx(server.port, setup, shutdown_timeout_s=0.5, **changes)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        open_client(page, server, client_name)
        server.burst(client_name, 1)
        page.eventually(f"recorder.numbers.length === 1 && {STATE} === 'connected:{expected}'")
        began = time.monotonic()
        server.burst(client_name, COUNT - 1, every_ms=EVERY_MS)
        page.run(f"() => void recorder.emit(0, {COUNT}, {EVERY_MS})")
        page.eventually(f"recorder.numbers.length > {COUNT // 3}")
        old = proxy.reload()
        proxy.await_end_of(old)
        check_numbers(page, server, client_name, COUNT, COUNT)
        events = page.read("recorder.events")
        begun, first = (next(e["at"] for e in events if e["kind"] == kind) for kind in ("begin", "first number"))
        table.append(
            f"{case:24} first message {first - begun:4} ms, {time.monotonic() - began:5.1f} s for all, "
            f"ends on {page.read(STATE)}, recovered {page.read('recorder.recovered.yes')} times; "
            f"sent by {server.client(client_name)['sentByTransport']}"
        )


def test_silence_longer_than_the_proxys_read_timeout_loses_nothing(
    chromium: Chromium, numbers: Callable[..., Numbers], nginx: Callable[..., Nginx], client_name: str
) -> None:
    server = numbers(**OPTIONS)
    proxy = nginx(server.port, "short_timeout", read_timeout_s=1)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        open_client(page, server, client_name)
        server.burst(client_name, 10)
        page.eventually("recorder.numbers.length === 10")
        page.eventually("recorder.recovered.yes > 0", 30)
        server.burst(client_name, 10)
        page.run("() => void recorder.emit(0, 10)")
        check_numbers(page, server, client_name, 20, 10)


def during_a_burst(page: Page, server: Numbers, name: str) -> None:
    """Numbers flow both ways for some seconds from here on."""
    server.burst(name, COUNT, every_ms=EVERY_MS)
    page.run(f"() => void recorder.emit(0, {COUNT}, {EVERY_MS})")
    page.eventually(f"recorder.numbers.length > {COUNT // 5}")


TRANSPORTS = ("websocket", "xhr-streaming", "polling")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("is_told", [True, False], ids=["offline", "silent"])
def test_a_network_that_is_cut_and_restored(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, transport: str, is_told: bool
) -> None:
    """``offline``: the browser is told. ``silent``: packets vanish, and only time tells."""
    server = numbers(**OPTIONS)
    with (
        chromium.network(server.process.url) as network,
        chromium.page(server.page(network.url, client_name)) as page,
    ):
        open_client(page, server, client_name, {"transports": [transport]})
        during_a_burst(page, server, client_name)
        network.set("strand")
        if is_told:
            page.cut_network()
            page.eventually(f"{STATE} === 'offline:network'")
        else:
            page.eventually("recorder.states.at(-1).startsWith('recovering')", 30)
        eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of what is sent meanwhile", 30)
        assert page.read("recorder.numbers.length") < COUNT
        network.set("pass")
        if is_told:
            page.restore_network()
        check_numbers(page, server, client_name, COUNT, COUNT)
        assert page.read("recorder.recovered.yes") >= 1
        assert f"received {COUNT}, missing 0, repeated 0\nrecovered" in page.read("document.body.textContent")
        print(transport, page.read("recorder.states"))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_tab_that_is_frozen_and_thawed(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, transport: str
) -> None:
    server = numbers(**OPTIONS)
    with chromium.page(server.page(server.process.url, client_name)) as page:
        open_client(page, server, client_name, {"transports": [transport]})
        during_a_burst(page, server, client_name)
        page.freeze()
        eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of what is sent meanwhile", 30)
        page.thaw()
        check_numbers(page, server, client_name, COUNT, COUNT)
        assert page.read("recorder.recovered.yes") >= 1
        assert "offline:page" in page.read("recorder.states")
        print(transport, page.read("recorder.states"))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_page_that_comes_back_from_the_back_forward_cache(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, transport: str
) -> None:
    server = numbers(**OPTIONS)
    with chromium.page(server.page(server.process.url, client_name)) as page:
        open_client(page, server, client_name, {"transports": [transport]})
        server.burst(client_name, 10)
        page.eventually("recorder.numbers.length === 10")
        page.leave(server.page(server.process.url, f"{client_name}-elsewhere"))
        server.burst(client_name, 10)
        assert page.go_back() == []
        page.run("() => void recorder.emit(0, 10)")
        check_numbers(page, server, client_name, 20, 10)
        assert page.read("recorder.recovered.yes") == 1


def test_a_laptop_that_sleeps(chromium: Chromium, numbers: Callable[..., Numbers], client_name: str) -> None:
    server = numbers(**OPTIONS)
    with chromium.page(server.page(server.process.url, client_name)) as page:
        open_client(page, server, client_name)
        during_a_burst(page, server, client_name)
        with chromium.paused():
            # Asleep until the server has given the connection up.
            eventually_sync(
                lambda: server.client(client_name)["connections"][-1]["reason"], "the end at the server", 40
            )
            eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of what is sent", 30)
        check_numbers(page, server, client_name, COUNT, COUNT)
        assert page.read("recorder.recovered.yes") >= 1


def test_a_page_that_is_closed_says_good_bye(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str
) -> None:
    """A stream that breaks off is waited for, so without a word the client would count as connected for long."""
    server = numbers(**OPTIONS)
    with chromium.page(server.page(server.process.url, client_name)) as page:
        open_client(page, server, client_name, {"transports": ["xhr-streaming"]})
    eventually_sync(lambda: server.client(client_name)["connections"][-1]["reason"], "the end at the server", 5)
