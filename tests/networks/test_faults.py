"""Each fault does what it says; what a test concludes from it depends on that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.networks.conftest import Numbers
from tests.support.chromium import Chromium, Page
from tests.support.nginx import Nginx
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.browser

CONNECT = "(transport) => recorder.connect({transports: [transport], reconnection: false})"
CONNECTED = "recorder.socket.connected"
COUNT = "recorder.numbers.length"
#: A stream and a WebSocket, each with a session of its own, that join under the names given.
OPEN_BY_HAND = """async (names) => {
    const path = '/socket.io/?EIO=4&transport=';
    const join = (name) => `40${JSON.stringify({client: name})}`;
    const socket = new WebSocket(location.origin.replace('http', 'ws') + path + 'websocket');
    globalThis.opened = {socket, streamed: '', frames: []};
    socket.onmessage = ({data}) => opened.frames.push(data);
    socket.onopen = () => socket.send(join(names.socket));
    const {body} = await fetch(path + 'xhr-streaming');
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const read = async () => {
        opened.streamed += (await reader.read()).value;
    };
    while (!opened.streamed.endsWith('\\u001e')) await read();
    const {sid} = JSON.parse(opened.streamed.slice(1, -1));
    await fetch(`${path}xhr-streaming&sid=${sid}`, {method: 'POST', body: join(names.stream)});
    (async () => {
        for (;;) await read();
    })();
}"""
FETCH = "() => fetch('/page').then(() => 'answered', () => 'failed')"


def connect(page: Page, transport: str) -> None:
    page.run(CONNECT, transport)
    page.eventually(CONNECTED)


def test_offline_fails_what_is_begun_and_cuts_nothing(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str
) -> None:
    """By hand, since engine.io-client closes its connection by itself when it is told of being offline."""
    server = numbers()
    stream, socket = f"{client_name}-stream", f"{client_name}-socket"
    with chromium.page(server.page(server.process.url, client_name)) as page:
        page.run(OPEN_BY_HAND, {"stream": stream, "socket": socket})
        page.eventually("opened.streamed.includes('40{') && opened.frames.some((frame) => frame.startsWith('40{'))")
        page.cut_network()
        assert page.read("navigator.onLine") is False
        page.eventually("recorder.kinds().includes('offline')")
        assert page.run(FETCH) == "failed"
        for name in (socket, stream):
            server.burst(name, 3)
        page.eventually("""opened.streamed.includes('42["number",2]')""")
        assert page.read("""[opened.socket.readyState, opened.frames.at(-1).startsWith('40{')]""") == [1, True]
        page.restore_network()
        page.eventually("""opened.frames.at(-1) === '42["number",2]'""")
        page.eventually("recorder.kinds().includes('online')")
        assert page.run(FETCH) == "answered"
        page.run("() => opened.socket.close()")


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming", "polling"])
def test_silence_holds_everything_and_loses_nothing(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, transport: str
) -> None:
    server = numbers()
    with (
        chromium.network(server.process.url) as network,
        chromium.page(server.page(network.url, client_name)) as page,
    ):
        connect(page, transport)
        network.set("silence")
        server.burst(client_name, 50, every_ms=1)
        page.run("() => recorder.send(0, 50)")
        eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of the burst")
        assert page.read(COUNT) == 0
        assert server.client(client_name)["received"] == []
        assert (
            page.run("""() => Promise.race([
            fetch('/page').then(() => 'answered', () => 'failed'),
            new Promise((resolve) => setTimeout(resolve, 200, 'silence')),
        ])""")
            == "silence"
        )
        network.set("pass")
        page.eventually(f"{COUNT} === 50")
        assert page.read("recorder.numbers") == [*range(50)]
        eventually_sync(lambda: server.client(client_name)["received"] == [*range(50)], "numbers 0 to 49")
        assert page.read(CONNECTED)


@pytest.mark.parametrize("mode", ["drop", "refuse"])
def test_reset_connections_end(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, mode: Any
) -> None:
    server = numbers()
    with (
        chromium.network(server.process.url) as network,
        chromium.page(server.page(network.url, client_name)) as page,
    ):
        connect(page, "websocket")
        network.set(mode)
        page.eventually("recorder.kinds().includes('disconnect')")
        assert network.connections() == 0
        if mode == "refuse":
            assert page.run(FETCH) == "failed"
            network.set("pass")
        assert page.run(FETCH) == "answered"


def test_stranded_connections_stay_silent_and_new_ones_pass(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str
) -> None:
    server = numbers()
    with (
        chromium.network(server.process.url) as network,
        chromium.page(server.page(network.url, client_name)) as page,
    ):
        connect(page, "websocket")
        network.set("strand")
        server.burst(client_name, 5)
        eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of the burst")
        # A request might be sent on a connection that the browser has kept, which is stranded too.
        page.run("""() => {
            const url = location.origin.replace('http', 'ws') + '/socket.io/?EIO=4&transport=websocket';
            globalThis.fresh = new WebSocket(url);
        }""")
        page.eventually("fresh.readyState === WebSocket.OPEN")
        assert page.read(f"[{COUNT}, {CONNECTED}]") == [0, True]
        page.run("() => fresh.close()")


def test_hidden_pages_have_slow_timers(chromium: Chromium, numbers: Callable[..., Numbers], client_name: str) -> None:
    server = numbers()
    with chromium.page(server.page(server.process.url, client_name)) as page:
        gap = """() => new Promise((resolve) => {
            const times = [];
            const timer = setInterval(() => {
                times.push(performance.now());
                if (times.length < 3) return;
                clearInterval(timer);
                resolve(times[2] - times[1]);
            }, 20);
        })"""
        assert page.run(gap) < 900
        page.hide()
        assert page.run(gap) > 900  # Chromium aligns them to whole seconds; a machine can only make them later
        page.show()
        states = page.read("recorder.events.filter(({kind}) => kind === 'visibilitychange').map(({state}) => state)")
        assert states == ["hidden", "visible"]


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming", "polling"])
def test_frozen_pages_stand_still(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, transport: str
) -> None:
    """What becomes of its connection is printed: once thawed, Chromium 156 closes the WebSocket, hands over the answer
    of a poll, and is silent about a stream that is read by fetch until that ends.
    """
    server = numbers()
    with chromium.page(server.page(server.process.url, client_name)) as page:
        connect(page, transport)
        page.run("() => { globalThis.ticks = 0; setInterval(() => ticks++, 10); }")
        page.eventually("ticks > 2")
        page.freeze()
        page.eventually("recorder.kinds().includes('freeze')")
        ticks = page.read("ticks")
        server.burst(client_name, 50, every_ms=10)
        eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of the burst")
        assert page.read("ticks") == ticks
        assert page.read(COUNT) == 0
        page.thaw()
        page.eventually(f"ticks > {ticks}")
        kinds = page.read("recorder.kinds()")
        assert kinds.index("freeze") < kinds.index("resume")
        print(f"{transport}: {page.read(COUNT)} of 50 at once; {kinds[kinds.index('freeze') :]}")


def test_a_page_that_is_left_comes_back_out_of_the_cache(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str
) -> None:
    server = numbers()
    with chromium.page(server.page(server.process.url, client_name)) as page:
        page.run("() => { globalThis.isTheSame = true; }")
        page.leave(f"{server.process.url}/page")
        assert page.read("globalThis.isTheSame") is None
        assert page.go_back() == []
        page.eventually("globalThis.isTheSame")
        shows = page.read("recorder.events.filter(({kind}) => kind === 'pageshow').map(({persisted}) => persisted)")
        assert shows == [False, True]


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming", "polling"])
def test_a_connected_page_is_taken_into_the_cache(
    chromium: Chromium, numbers: Callable[..., Numbers], client_name: str, transport: str
) -> None:
    """What becomes of its connection is printed: Chromium 156 closes the WebSocket as it comes back, leaves a poll
    that was answered meanwhile without its answer for ever, and hands over what a stream brought.
    """
    server = numbers()
    with chromium.page(server.page(server.process.url, client_name)) as page:
        connect(page, transport)
        page.leave(f"{server.process.url}/page")
        server.burst(client_name, 20, every_ms=10)
        eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of the burst")
        assert page.go_back() == []
        page.eventually("recorder.events.some(({persisted}) => persisted)")
        came = page.read("recorder.numbers")
        assert came == [*range(len(came))]
        print(f"{transport}: {len(came)} of 20 at once; {page.read('recorder.kinds().slice(5)')}")


def test_a_paused_browser_does_nothing(chromium: Chromium, numbers: Callable[..., Numbers], client_name: str) -> None:
    server = numbers()
    with chromium.page(server.page(server.process.url, client_name)) as page:
        connect(page, "websocket")
        page.run("() => { globalThis.n = 0; setInterval(() => recorder.socket.emit('number', n++), 10); }")
        eventually_sync(lambda: server.client(client_name)["received"], "the first number")
        with chromium.paused():
            server.burst(client_name, 50, every_ms=10)
            before = len(server.client(client_name)["received"])
            eventually_sync(lambda: not server.client(client_name)["isSending"], "the end of the burst")
            # What was under way when it stopped may still arrive.
            assert len(server.client(client_name)["received"]) <= before + 2
        page.eventually(f"{COUNT} === 50")
        assert page.read(CONNECTED)


def test_nginx_reloads_while_it_serves(
    numbers: Callable[..., Numbers], nginx: Callable[..., Nginx], chromium: Chromium, client_name: str
) -> None:
    server = numbers()
    proxy = nginx(server.port, shutdown_timeout_s=0.2)
    with chromium.page(server.page(proxy.url, client_name)) as page:
        connect(page, "websocket")
        old = proxy.reload()
        proxy.await_end_of(old)
        page.eventually("recorder.kinds().includes('disconnect')")
        assert page.run(FETCH) == "answered"
