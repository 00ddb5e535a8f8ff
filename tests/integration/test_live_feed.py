"""The live feed example: reading feeds, polling one that misbehaves, and telling browsers over real sockets."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import socketio
from aiohttp import ClientSession, web

from examples.live_feed.app import create_app, parse_arguments
from examples.live_feed.feed import (
    MAX_BODY_BYTES,
    FeedError,
    FeedPoller,
    SeenIdentities,
    parse_feed,
    public_address,
    retry_delay_s,
)
from examples.live_feed.sample_feed import NEW_ITEM_EVERY_S, SampleFeed

TIMEOUT_S = 20.0
INTERVAL_S = 0.05


def entry(number: int) -> dict[str, object]:
    return {"id": number, "title": f"Entry {number}"}


@dataclass
class FakeFeed:
    """A feed on a real socket that answers as it is told to."""

    entries: list[dict[str, object]] = field(default_factory=list)
    body: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        if self.hold is not None:
            await self.hold.wait()
        if "ETag" in self.headers and request.headers.get("If-None-Match") == self.headers["ETag"]:
            return web.Response(status=304)
        body = self.body if self.body is not None else json.dumps(self.entries).encode()
        return web.Response(status=self.status, body=body, headers=self.headers)


@asynccontextmanager
async def served(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served_feed(feed: FakeFeed, port: int = 0) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/feed.json", feed.answer)
    async with served(app, port) as origin:
        yield f"{origin}/feed.json"


@asynccontextmanager
async def polled(feed: FakeFeed, **options: Any) -> AsyncIterator[FeedPoller]:
    async with served_feed(feed) as url, ClientSession() as http:
        yield FeedPoller(http, url, **options)


# Reading


@pytest.mark.parametrize("wrap", [lambda e: e, *[lambda e, k=k: {k: e} for k in ("items", "entries", "results")]])
def test_an_array_is_read_bare_or_wrapped_and_oldest_first(wrap: Callable[[object], object]) -> None:
    items = parse_feed(json.dumps(wrap([entry(2), entry(1)])).encode())
    assert [item.title for item in items] == ["Entry 1", "Entry 2"]


def test_a_feed_whose_dates_ascend_keeps_its_order() -> None:
    entries = [{"id": 1, "title": "old", "date": "2026-01-01"}, {"id": 2, "title": "new", "date": "2026-01-02"}]
    assert [item.title for item in parse_feed(json.dumps(entries).encode())] == ["old", "new"]


def test_dates_that_do_not_sort_as_text_are_not_compared() -> None:
    entries = [{"id": 2, "date": "Fri, 2 Jan 2026"}, {"id": 1, "date": "Thu, 1 Jan 2026"}]
    assert [item.published for item in parse_feed(json.dumps(entries).encode())] == [
        "Thu, 1 Jan 2026",
        "Fri, 2 Jan 2026",
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff\xfe", b"null", b"7", b"{}", b'{"items": 3}', b"[1, 2]", b'{"a": NaN}', b"[" * 5_000],
)
def test_what_is_no_feed_is_refused(body: bytes) -> None:
    with pytest.raises(FeedError):
        parse_feed(body)


def test_a_feed_nested_too_deeply_is_refused() -> None:
    with pytest.raises(FeedError, match="deeply"):
        parse_feed(b'[{"a":' + b"[" * 500 + b"]" * 500 + b"}]")


def test_an_empty_feed_is_a_feed() -> None:
    assert parse_feed(b"[]") == []


def test_identity_comes_from_id_guid_or_url_and_else_from_the_whole() -> None:
    def identity(**fields: object) -> str:
        return parse_feed(json.dumps([fields]).encode())[0].identity

    assert identity(id=1, title="a") == identity(id=1, title="b")
    assert identity(id=1) != identity(id="1")
    assert identity(guid="x", n=1) == identity(guid="x", n=2)
    assert identity(url="https://a.example/", n=1) == identity(url="https://a.example/", n=2)
    assert identity(id=None, title="a", n=1) == identity(n=1, title="a", id=None)
    assert identity(id=True, n=1) != identity(id=True, n=2)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "ftp://a.example/", 7, None])
def test_only_web_links_are_passed_on(url: object) -> None:
    assert parse_feed(json.dumps([{"id": 1, "url": url}]).encode())[0].url is None


def test_titles_fall_back_and_long_texts_are_shortened() -> None:
    (item,) = parse_feed(json.dumps([{"id": 1, "text": "a  b\n" + "x" * 2_000}]).encode())
    assert item.title.startswith("a b x")
    assert len(item.title) == 500
    (item,) = parse_feed(b'[{"id": 1, "price": 2}]')
    assert item.title == '{"id":1,"price":2}'


def test_seen_identities_are_bounded_and_forget_the_one_longest_not_met() -> None:
    seen = SeenIdentities(2)
    assert [seen.add(identity) for identity in "abab"] == [True, True, False, False]
    assert seen.add("c")
    assert len(seen) == 2
    assert not seen.add("b")
    assert seen.add("a")


def test_pauses_double_up_to_a_minute_and_are_never_shorter_than_the_interval() -> None:
    assert [retry_delay_s(failures, 3.0) for failures in (0, 1, 2, 5, 500)] == [3.0, 6.0, 12.0, 60.0, 60.0]
    assert retry_delay_s(4, 300.0) == 300.0


def test_the_address_shown_holds_no_secret() -> None:
    assert public_address("https://me:pw@a.example/feed?key=secret#x") == "https://a.example/feed"


def test_the_sample_feed_grows_with_the_clock_and_stays_short() -> None:
    feed = SampleFeed(1_000.0)
    first = feed.items(1_000.0)
    later = feed.items(1_000.0 + NEW_ITEM_EVERY_S)
    assert later[1:] == first
    assert len(feed.items(9e9)) == 20


@pytest.mark.parametrize(
    "arguments",
    [[], ["--feed", "ftp://a.example/"], ["--feed", "nowhere"], ["--sample-feed", "--interval", "0"]],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)


# Polling


async def test_only_what_is_new_is_handed_on() -> None:
    feed = FakeFeed([entry(2), entry(1)])
    async with polled(feed) as poller:
        assert [item.title for item in await poller.poll()] == ["Entry 1", "Entry 2"]
        assert await poller.poll() == []
        feed.entries.insert(0, entry(3))
        assert [item.title for item in await poller.poll()] == ["Entry 3"]
        assert (poller.state.status, poller.state.requests, poller.state.next_in_s) == ("ok", 3, 3.0)


async def test_unchanged_feeds_are_asked_for_with_what_they_gave_and_answer_304() -> None:
    feed = FakeFeed([entry(1)], headers={"ETag": '"v1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})
    async with polled(feed) as poller:
        await poller.poll()
        assert await poller.poll() == []
        assert poller.state.status == "unchanged"
        assert "If-None-Match" not in feed.requests[0]
        assert feed.requests[1]["If-None-Match"] == '"v1"'
        assert feed.requests[1]["If-Modified-Since"] == "Thu, 01 Jan 2026 00:00:00 GMT"
        feed.entries, feed.headers["ETag"] = [entry(2)], '"v2"'
        assert [item.title for item in await poller.poll()] == ["Entry 2"]


async def test_garbage_is_reported_and_its_etag_not_kept() -> None:
    feed = FakeFeed(body=b"<html>Oops</html>", headers={"ETag": '"v1"'})
    async with polled(feed) as poller:
        assert await poller.poll() == []
        assert (poller.state.status, poller.state.error) == ("error", "The feed is not valid JSON.")
        feed.body, feed.entries = None, [entry(1)]
        assert len(await poller.poll()) == 1
        assert poller.state.error is None


async def test_a_body_of_exactly_the_bound_is_read_and_one_byte_more_is_not() -> None:
    padding = MAX_BODY_BYTES - len(b"[]")
    feed = FakeFeed(body=b"[" + b" " * padding + b"]")
    async with polled(feed) as poller:
        await poller.poll()
        assert poller.state.status == "ok"
        feed.body = b"[" + b" " * (padding + 1) + b"]"
        await poller.poll()
        assert poller.state.error == "The feed is larger than 2097152 bytes."


async def test_a_body_that_grows_when_unpacked_is_bounded_too() -> None:
    feed = FakeFeed(body=gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})
    async with polled(feed) as poller:
        await poller.poll()
        assert poller.state.status == "error"
        assert "larger" in str(poller.state.error)


async def test_failures_lengthen_the_pause_and_a_success_restores_it() -> None:
    feed = FakeFeed([entry(1)], status=503)
    async with polled(feed) as poller:
        pauses = []
        for _ in range(3):
            await poller.poll()
            pauses.append(poller.state.next_in_s)
        assert pauses == [6.0, 12.0, 24.0]
        assert (poller.state.failures, poller.state.error) == (3, "The feed answered 503 Service Unavailable.")
        feed.status = 200
        await poller.poll()
        assert (poller.state.failures, poller.state.next_in_s) == (0, 3.0)


async def test_retry_after_is_obeyed() -> None:
    async with polled(FakeFeed(status=429, headers={"Retry-After": "90"})) as poller:
        await poller.poll()
        assert poller.state.next_in_s == 90.0


async def test_a_feed_that_never_answers_times_out() -> None:
    feed = FakeFeed(hold=asyncio.Event())
    async with polled(feed, timeout_s=0.1) as poller:
        await poller.poll()
        assert poller.state.error == "The feed did not answer within 0.1 s."
        assert feed.hold is not None
        feed.hold.set()


async def test_a_feed_that_is_down_is_reported_without_its_secrets() -> None:
    async with served_feed(FakeFeed()) as url:
        pass
    async with ClientSession() as http:
        poller = FeedPoller(http, f"{url}?key=secret")
        await poller.poll()
        assert poller.state.status == "error"
        assert "No connection to 127.0.0.1" in str(poller.state.error)
        assert "secret" not in str(poller.state.error)


async def test_endless_redirects_are_given_up() -> None:
    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound("/feed.json")

    app = web.Application()
    app.router.add_get("/feed.json", redirect)
    async with served(app) as origin, ClientSession() as http:
        poller = FeedPoller(http, f"{origin}/feed.json")
        await poller.poll()
        assert poller.state.error == "The request failed (TooManyRedirects)."


# The whole example


class Visitor:
    """A stock Socket.IO client that keeps everything the server sends."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.heard: dict[str, list[Any]] = {"welcome": [], "item": [], "feed": []}
        self._changed = asyncio.Condition()
        for event in self.heard:
            self.client.on(event, self._keep(event))

    def _keep(self, event: str) -> Callable[[Any], Any]:
        async def keep(data: Any, *offset: str) -> None:
            async with self._changed:
                self.heard[event].append(data)
                self._changed.notify_all()

        return keep

    async def wait_until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(is_true)

    async def titles(self, count: int) -> list[str]:
        """Of the first `count` items, those of the welcome included."""

        def heard() -> list[Any]:
            return [item for welcome in self.heard["welcome"] for item in welcome["items"]] + self.heard["item"]

        await self.wait_until(lambda: len(heard()) >= count)
        assert [item["n"] for item in heard()] == list(range(heard()[0]["n"], heard()[0]["n"] + len(heard())))
        return [item["title"] for item in heard()][:count]

    async def wait_for_status(self, status: str) -> dict[str, Any]:
        await self.wait_until(lambda: any(feed["status"] == status for feed in self.heard["feed"][-1:]))
        state: dict[str, Any] = self.heard["feed"][-1]
        return state


@asynccontextmanager
async def visitor(origin: str) -> AsyncIterator[Visitor]:
    guest = Visitor()
    await guest.client.connect(origin, transports=["websocket"], wait_timeout=TIMEOUT_S)
    try:
        yield guest
    finally:
        await guest.client.disconnect()


@asynccontextmanager
async def live_feed(url: str | None) -> AsyncIterator[str]:
    async with served(create_app(url, interval_s=INTERVAL_S)) as origin:
        yield origin


async def test_new_items_reach_every_browser_numbered() -> None:
    feed = FakeFeed([entry(1)])
    async with (
        served_feed(feed) as url,
        live_feed(url) as origin,
        visitor(origin) as ada,
        visitor(origin) as bob,
    ):
        assert await ada.titles(1) == ["Entry 1"]
        feed.entries[:0] = [entry(3), entry(2)]
        for guest in (ada, bob):
            assert await guest.titles(3) == ["Entry 1", "Entry 2", "Entry 3"]


async def test_a_late_joiner_gets_the_last_fifty() -> None:
    feed = FakeFeed([entry(number) for number in range(60, 0, -1)])
    async with served_feed(feed) as url, live_feed(url) as origin, visitor(origin) as early:
        await early.titles(50)
        feed.entries.insert(0, entry(61))
        await early.titles(51)
        async with visitor(origin) as late:
            await late.wait_until(lambda: bool(late.heard["welcome"]))
            (welcome,) = late.heard["welcome"]
            assert [item["title"] for item in welcome["items"]] == [f"Entry {n}" for n in range(12, 62)]
            assert welcome["n"] == welcome["items"][-1]["n"] == 51
            assert welcome["feed"]["address"] == url


async def test_browsers_hear_that_the_feed_is_down_and_that_it_is_back() -> None:
    feed = FakeFeed([entry(1)])
    async with served_feed(feed) as url:
        port = int(url.split(":")[2].split("/")[0])
    async with live_feed(url) as origin, visitor(origin) as guest:
        assert "No connection" in (await guest.wait_for_status("error"))["error"]
        async with served_feed(feed, port):
            assert await guest.titles(1) == ["Entry 1"]
            assert (await guest.wait_for_status("ok"))["failures"] == 0


async def test_garbage_from_the_feed_leaves_the_items_and_tells_why() -> None:
    feed = FakeFeed([entry(1)])
    async with served_feed(feed) as url, live_feed(url) as origin, visitor(origin) as guest:
        await guest.titles(1)
        feed.body = b"{"
        assert (await guest.wait_for_status("error"))["error"] == "The feed is not valid JSON."
        async with visitor(origin) as late:
            assert await late.titles(1) == ["Entry 1"]


async def test_the_sample_feed_needs_nothing_from_outside_and_says_what_it_is() -> None:
    async with live_feed(None) as origin, visitor(origin) as guest:
        assert len(await guest.titles(3)) == 3
        await guest.wait_for_status("unchanged")
        assert guest.heard["welcome"][0]["feed"]["sample"] is True


async def test_the_page_and_its_assets_are_served() -> None:
    async with served_feed(FakeFeed()) as url, live_feed(url) as origin, ClientSession(origin) as http:
        for path, content_type in {
            "/": "text/html; charset=utf-8",
            "/live.css": "text/css; charset=utf-8",
            "/live.js": "text/javascript; charset=utf-8",
            "/favicon.svg": "image/svg+xml",
        }.items():
            async with http.get(path) as response:
                assert (path, response.status) == (path, 200)
                assert response.headers["Content-Type"] == content_type
                assert "script-src 'self'" in response.headers["Content-Security-Policy"]
