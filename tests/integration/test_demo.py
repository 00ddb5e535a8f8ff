"""The live demo: its sampler, its chat rules, and both over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import socketio
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

import gateway
from gateway.demo import install
from gateway.demo.chat import MAX_LINES_PER_WINDOW, WINDOW_S, Chat, ChatRefusedError
from gateway.demo.host_sampler import HostSampler, InterfaceCounters, PsutilReader

TIMEOUT_S = 20.0
INTERVAL_S = 0.05


@dataclass
class FakeReader:
    interfaces: dict[str, InterfaceCounters] = field(default_factory=dict)
    cores: list[float] = field(default_factory=lambda: [20.0, 60.0])

    def core_pcts(self) -> list[float]:
        return self.cores

    def memory_bytes(self) -> tuple[int, int]:
        return 8_000, 2_000

    def interface_counters(self) -> dict[str, InterfaceCounters]:
        return dict(self.interfaces)

    def load(self) -> tuple[float, float, float]:
        return (0.5, 0.25, 0.125)


def test_sample_turns_counters_into_rates() -> None:
    reader = FakeReader({"eth0": InterfaceCounters(1_000, 500)})
    sampler = HostSampler(10.0, reader)
    reader.interfaces["eth0"] = InterfaceCounters(5_000, 1_500)
    sample = sampler.sample(12.0)
    assert (sample.received_bytes_per_s, sample.sent_bytes_per_s) == (2_000, 500)
    assert (sample.cpu_pct, sample.core_pcts) == (40.0, (20.0, 60.0))
    assert (sample.memory_total_bytes, sample.memory_used_bytes, sample.memory_pct) == (8_000, 2_000, 25.0)
    assert sample.load == (0.5, 0.25, 0.125)


def test_rates_cover_only_the_time_since_the_sample_before() -> None:
    reader = FakeReader({"eth0": InterfaceCounters(0, 0)})
    sampler = HostSampler(0.0, reader)
    reader.interfaces["eth0"] = InterfaceCounters(1_000, 0)
    assert sampler.sample(1.0).received_bytes_per_s == 1_000
    assert sampler.sample(2.0).received_bytes_per_s == 0


def test_an_interface_that_is_reset_adds_nothing_and_hides_nothing() -> None:
    reader = FakeReader({"eth0": InterfaceCounters(9_000, 9_000), "wlan0": InterfaceCounters(100, 100)})
    sampler = HostSampler(0.0, reader)
    reader.interfaces = {"eth0": InterfaceCounters(10, 20), "wlan0": InterfaceCounters(400, 200)}
    sample = sampler.sample(1.0)
    assert (sample.received_bytes_per_s, sample.sent_bytes_per_s) == (300, 100)


def test_an_interface_that_comes_or_goes_makes_no_burst() -> None:
    reader = FakeReader({"eth0": InterfaceCounters(9_000, 9_000)})
    sampler = HostSampler(0.0, reader)
    reader.interfaces = {"tun0": InterfaceCounters(1_000_000, 1_000_000)}
    sample = sampler.sample(1.0)
    assert (sample.received_bytes_per_s, sample.sent_bytes_per_s) == (0, 0)


def test_a_clock_that_stands_still_gives_no_rate() -> None:
    reader = FakeReader({"eth0": InterfaceCounters(0, 0)})
    sampler = HostSampler(5.0, reader)
    reader.interfaces["eth0"] = InterfaceCounters(1_000, 1_000)
    assert sampler.sample(5.0).received_bytes_per_s == 0


def test_this_host_can_be_sampled() -> None:
    sampler = HostSampler(0.0, PsutilReader())
    sample = sampler.sample(1.0)
    assert sample.core_pcts
    assert all(0 <= pct <= 100 for pct in sample.core_pcts)
    assert 0 < sample.memory_used_bytes < sample.memory_total_bytes
    assert sample.received_bytes_per_s >= 0
    assert "lo" not in PsutilReader().interface_counters()


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (None, "an object"),
        ("hello", "an object"),
        ([], "an object"),
        ({}, "name must be a string"),
        ({"name": 7, "text": "x"}, "name must be a string"),
        ({"name": "Ada", "text": None}, "text must be a string"),
        ({"name": "Ada", "text": b"x"}, "text must be a string"),
        ({"name": "   ", "text": "x"}, "name is empty"),
        ({"name": "Ada", "text": "\n\t"}, "text is empty"),
        ({"name": "a" * 25, "text": "x"}, "longer than 24"),
        ({"name": "Ada", "text": "x" * 501}, "longer than 500"),
        ({"name": "A\x00da", "text": "x"}, "cannot be shown"),
        ({"name": "Ada", "text": "half \ud83d"}, "cannot be shown"),
    ],
)
def test_a_line_that_breaks_the_rules_is_refused(payload: object, complaint: str) -> None:
    chat = Chat()
    with pytest.raises(ChatRefusedError, match=complaint):
        chat.say("a", payload, now=0.0, t=0.0)
    assert chat.lines == ()


def test_the_longest_name_and_text_are_accepted() -> None:
    line = Chat().say("a", {"name": "n" * 24, "text": " " + "x" * 500 + " "}, now=0.0, t=7.0)
    assert (line.id, line.name, line.text, line.t) == (1, "n" * 24, "x" * 500, 7.0)


def test_pace_is_kept_for_each_speaker_and_recovers() -> None:
    chat = Chat()
    payload = {"name": "Ada", "text": "x"}
    for _ in range(MAX_LINES_PER_WINDOW):
        chat.say("a", payload, now=1.0, t=0.0)
    with pytest.raises(ChatRefusedError, match=r"5 lines in 3 seconds.*again in 2\.0 s"):
        chat.say("a", payload, now=2.0, t=0.0)
    chat.say("b", payload, now=2.0, t=0.0)
    chat.say("a", payload, now=1.0 + WINDOW_S, t=0.0)


class Visitor:
    """A stock Socket.IO client that keeps everything the server sends."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.heard: dict[str, list[Any]] = {"welcome": [], "sample": [], "chat": []}
        self._changed = asyncio.Condition()
        for event in self.heard:
            self.client.on(event, self._keep(event))

    def _keep(self, event: str) -> Callable[[Any], Any]:
        async def keep(data: Any, *offset: str) -> None:
            async with self._changed:
                self.heard[event].append(data)
                self._changed.notify_all()

        return keep

    async def wait_for(self, event: str, count: int = 1) -> list[Any]:
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(lambda: len(self.heard[event]) >= count)
            return self.heard[event]

    async def ask(self, event: str, data: object = None) -> Any:
        return await self.client.call(event, data, timeout=TIMEOUT_S)


@asynccontextmanager
async def visitor(url: str, *transports: str) -> AsyncIterator[Visitor]:
    guest = Visitor()
    await guest.client.connect(url, transports=list(transports) or ["websocket"], wait_timeout=TIMEOUT_S)
    try:
        yield guest
    finally:
        await guest.client.disconnect()


@dataclass
class Returner:
    """A raw WebSocket client that can come back to its place, as ``socket.io-client`` does."""

    http: ClientSession
    pid: str = ""
    offset: str = ""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientWebSocketResponse]:
        async with self.http.ws_connect("/socket.io/?EIO=4&transport=websocket") as websocket:
            claim = {"pid": self.pid, "offset": self.offset} if self.pid else {}
            await websocket.send_str("40" + json.dumps(claim))
            while not (packet := await self._read(websocket)).startswith("40"):
                pass
            self.pid = json.loads(packet[2:])["pid"]
            yield websocket

    async def hear(self, websocket: ClientWebSocketResponse, count: int) -> list[tuple[str, Any]]:
        """The next events, of which the offset is kept."""
        heard: list[tuple[str, Any]] = []
        while len(heard) < count:
            packet = await self._read(websocket)
            if packet.startswith("42"):
                event, data, self.offset = json.loads(packet[2:])
                heard.append((event, data))
        return heard

    async def _read(self, websocket: ClientWebSocketResponse) -> str:
        return await websocket.receive_str(timeout=TIMEOUT_S)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    server = gateway.Server(recovery_s=60)
    server.attach(app)
    install(server, app, interval_s=INTERVAL_S)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_page_and_assets_are_served_with_their_types_and_a_strict_policy(url: str) -> None:
    expected = {
        "/": "text/html; charset=utf-8",
        "/demo/demo.css": "text/css; charset=utf-8",
        "/demo/demo.js": "text/javascript; charset=utf-8",
        "/demo/charts.js": "text/javascript; charset=utf-8",
        "/demo/chat.js": "text/javascript; charset=utf-8",
        "/demo/sequence.js": "text/javascript; charset=utf-8",
        "/demo/state.js": "text/javascript; charset=utf-8",
        "/demo/words.js": "text/javascript; charset=utf-8",
        "/demo/favicon.svg": "image/svg+xml",
    }
    async with ClientSession(url) as http:
        for path, content_type in expected.items():
            async with http.get(path) as response:
                body = await response.text()
                assert (path, response.status) == (path, 200)
                assert response.headers["Content-Type"] == content_type
                assert "script-src 'self'" in response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert body
            if path == "/":
                assert "<script>" not in body
                assert "style=" not in body
                assert "//" not in body.replace("<!doctype", "")
        async with http.get("/demo/app.py") as response:
            assert response.status == 404


async def test_an_unchanged_asset_is_not_sent_again(url: str) -> None:
    async with ClientSession(url) as http:
        async with http.get("/demo/demo.js") as response:
            tag = response.headers["ETag"]
        async with http.get("/demo/demo.js", headers={"If-None-Match": tag}) as response:
            assert response.status == 304


async def test_samples_come_numbered_without_a_gap(url: str) -> None:
    async with visitor(url) as guest:
        await guest.wait_for("welcome")
        samples = (await guest.wait_for("sample", 5))[:5]
        first_n = samples[0]["n"]
        assert [sample["n"] for sample in samples] == list(range(first_n, first_n + 5))
        assert first_n == guest.heard["welcome"][0]["n"] + 1
        sample = samples[-1]
        assert sample["clients"] == 1
        assert 0 <= sample["cpu"] <= 100
        assert len(sample["cores"]) >= 1
        assert 0 < sample["mem"]["used"] < sample["mem"]["total"]
        assert set(sample["net"]) == {"rx_bps", "tx_bps"}
        assert len(sample["load"]) == 3
        assert [each["t"] for each in samples] == sorted(each["t"] for each in samples)


async def test_a_late_visitor_gets_the_history_and_goes_on_where_it_ends(url: str) -> None:
    async with visitor(url) as early:
        await early.wait_for("sample", 4)
        async with visitor(url) as late:
            (welcome,) = await late.wait_for("welcome")
            numbers = [sample["n"] for sample in welcome["history"]]
            assert numbers == list(range(numbers[0], welcome["n"] + 1))
            assert len(numbers) >= 4
            samples = await late.wait_for("sample", 2)
            assert samples[0]["n"] == welcome["n"] + 1
            assert welcome["epoch"] == early.heard["welcome"][0]["epoch"]
            assert set(welcome["host"]) == {"cpus", "platform", "python"}


async def test_the_history_is_bounded(url: str) -> None:
    async with visitor(url) as early:
        await early.wait_for("sample", 65)
        async with visitor(url) as late:
            (welcome,) = await late.wait_for("welcome")
            assert len(welcome["history"]) == 60


async def test_chat_goes_both_ways_and_is_remembered(url: str) -> None:
    async with visitor(url) as ada, visitor(url, "polling") as bob:
        assert await ada.ask("chat", {"name": "Ada", "text": "hello <b>"}) == {"ok": True, "id": 1}
        assert await bob.ask("chat", {"name": "Bob", "text": "hello back"}) == {"ok": True, "id": 2}
        for guest in (ada, bob):
            lines = await guest.wait_for("chat", 2)
            assert [(line["id"], line["name"], line["text"]) for line in lines] == [
                (1, "Ada", "hello <b>"),
                (2, "Bob", "hello back"),
            ]
        async with visitor(url) as late:
            (welcome,) = await late.wait_for("welcome")
            assert welcome["chat"] == ada.heard["chat"]


async def test_a_refused_line_reaches_nobody_and_says_why(url: str) -> None:
    async with visitor(url) as ada:
        for payload in (None, 7, {"name": "", "text": "x"}, {"name": "Ada", "text": "x" * 501}):
            answer = await ada.ask("chat", payload)
            assert answer["ok"] is False
            assert answer["error"].endswith(".")
        assert (await ada.ask("chat", {"name": "Ada", "text": "fine"}))["ok"] is True
        lines = await ada.wait_for("chat")
        assert [line["text"] for line in lines] == ["fine"]


async def test_a_client_that_talks_too_fast_is_told_so_and_others_are_not(url: str) -> None:
    async with visitor(url) as ada, visitor(url) as bob:
        line = {"name": "Ada", "text": "x"}
        answers = [await ada.ask("chat", line) for _ in range(6)]
        assert [answer["ok"] for answer in answers] == [True] * 5 + [False]
        assert "Too fast" in answers[-1]["error"]
        assert (await bob.ask("chat", line))["ok"] is True


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_the_server_says_which_transport_it_sees(url: str, transport: str) -> None:
    async with visitor(url, transport) as guest:
        assert await guest.ask("transport_in_use") == {"transport": transport}


async def test_clients_are_counted_as_they_come_and_go(url: str) -> None:
    async with visitor(url) as ada:
        async with visitor(url):
            await _wait_for_clients(ada, 2)
        await _wait_for_clients(ada, 1)


async def test_who_comes_back_is_sent_what_it_has_missed_and_no_second_welcome(url: str) -> None:
    async with ClientSession(url) as http, visitor(url) as ada:
        bob = Returner(http)
        async with bob.connected() as websocket:
            events = await bob.hear(websocket, 2)
            assert [event for event, _ in events] == ["welcome", "sample"]
            last_n = events[-1][1]["n"]
        await _wait_for_clients(ada, 1)
        await ada.ask("chat", {"name": "Ada", "text": "while you were away"})
        async with bob.connected() as websocket:
            events = await bob.hear(websocket, 10)
            lines = [data["text"] for event, data in events if event == "chat"]
            numbers = [data["n"] for event, data in events if event == "sample"]
            assert lines == ["while you were away"]
            assert numbers == list(range(last_n + 1, last_n + 1 + len(numbers)))
            assert len(lines) + len(numbers) == len(events)
            await _wait_for_clients(ada, 2)


async def test_a_client_is_cut_off_without_a_good_bye_and_keeps_its_place(url: str) -> None:
    async with ClientSession(url) as http, visitor(url) as ada:
        bob = Returner(http)
        async with bob.connected() as websocket:
            await bob.hear(websocket, 2)
            pid = bob.pid
            await websocket.send_str('42["cut"]')
            kinds = set()
            async with asyncio.timeout(TIMEOUT_S):
                while not websocket.closed:
                    message = await websocket.receive()
                    kinds.add(message.type)
                    if message.type is WSMsgType.TEXT:
                        assert message.data not in ("1", "41"), "no packet says good-bye"
            assert WSMsgType.CLOSE not in kinds, "nor does WebSocket"
        async with bob.connected():
            assert bob.pid == pid
        assert ada.client.connected, "nobody else is cut"


async def _wait_for_clients(guest: Visitor, expected: int) -> None:
    seen = len(guest.heard["sample"])
    async with asyncio.timeout(TIMEOUT_S):
        while (await guest.wait_for("sample", seen + 1))[seen]["clients"] != expected:
            seen += 1
