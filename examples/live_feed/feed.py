"""Watch a JSON feed: ask for it politely, and hand on what was not there before."""

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import orjson
from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout, hdrs
from yarl import URL

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_REMEMBERED_IDENTITIES = 10_000
MAX_BACKOFF_S = 60.0
REQUEST_TIMEOUT_S = 10.0
MAX_TITLE_LENGTH = 200
MAX_SUMMARY_LENGTH = 500

_LIST_KEYS = ("items", "entries", "results")
_IDENTITY_KEYS = ("id", "guid", "url")
_TITLE_KEYS = ("title", "name", "headline", "subject")
_SUMMARY_KEYS = ("summary", "description", "text", "content_text", "message")
_LINK_KEYS = ("url", "link", "html_url", "external_url")
_DATE_KEYS = ("date_published", "published_at", "published", "created_at", "updated_at", "updated", "date", "time")

_SORTABLE_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{10}")

JsonObject = dict[str, object]


class FeedError(Exception):
    """The feed gave nothing that can be used this time; the message may be shown to people."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class FeedItem:
    """What is shown of one object of the feed, whatever its words for it."""

    identity: str
    title: str
    summary: str
    url: str | None
    published: str | None


@dataclass(frozen=True, slots=True)
class FeedState:
    """How the last request went, and when the next is due."""

    status: Literal["starting", "ok", "unchanged", "error"] = "starting"
    error: str | None = None
    failures: int = 0
    """In a row; 0 after a success."""
    requests: int = 0
    checked_at: float | None = None
    """Unix seconds."""
    next_in_s: float = 0.0


def parse_feed(body: bytes) -> list[FeedItem]:
    """The items of a feed, oldest first.

    Raises: FeedError, for anything but an array of objects, bare or under `items`, `entries` or `results`.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FeedError("The feed is not valid JSON.") from error
    if isinstance(document, dict):
        document = next((document[key] for key in _LIST_KEYS if isinstance(document.get(key), list)), None)
    if not isinstance(document, list):
        raise FeedError("The feed is neither an array nor an object with items, entries or results.")
    objects = [entry for entry in document if isinstance(entry, dict)]
    if document and not objects:
        raise FeedError("The feed's array holds no objects.")
    # Feeds put the newest first, unless their own dates say otherwise; only dates that sort as text can.
    dates = [date for entry in objects if _SORTABLE_DATE.match(date := _text(entry, _DATE_KEYS, 64))]
    if not (len(dates) > 1 and dates[0] < dates[-1]):
        objects.reverse()
    try:
        return [_read_item(entry) for entry in objects]
    except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
        raise FeedError("The feed is nested too deeply.") from error


def _read_item(entry: JsonObject) -> FeedItem:
    summary = _text(entry, _SUMMARY_KEYS, MAX_SUMMARY_LENGTH)
    title = _text(entry, _TITLE_KEYS, MAX_TITLE_LENGTH)
    if not title:
        title, summary = summary or _shortened(orjson.dumps(entry).decode(), MAX_TITLE_LENGTH), ""
    links = (_text(entry, (key,), 2_000) for key in _LINK_KEYS)
    return FeedItem(
        identity=_identify(entry),
        title=title,
        summary=summary,
        # The page makes links of these: nothing but the web may pass.
        url=next((link for link in links if link.lower().startswith(("https://", "http://"))), None),
        published=_text(entry, _DATE_KEYS, 64) or None,
    )


def _identify(entry: JsonObject) -> str:
    for key in _IDENTITY_KEYS:
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            # Hashed, so that an absurdly long id costs no more to remember than a short one.
            return _hash(f"{key}:{type(value).__name__}:{value}".encode())
    return _hash(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _text(entry: JsonObject, keys: tuple[str, ...], max_length: int) -> str:
    for key in keys:
        value = entry.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return _shortened(" ".join(value.split()), max_length)
    return ""


def _shortened(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


class SeenIdentities:
    """The identities met lately; the one longest not met is forgotten first."""

    __slots__ = ("_identities", "_max_identities")

    def __init__(self, max_identities: int = MAX_REMEMBERED_IDENTITIES) -> None:
        self._identities: OrderedDict[str, None] = OrderedDict()
        self._max_identities = max_identities

    def __len__(self) -> int:
        return len(self._identities)

    def add(self, identity: str) -> bool:
        """Whether it was new."""
        is_new = identity not in self._identities
        self._identities[identity] = None
        self._identities.move_to_end(identity)
        if len(self._identities) > self._max_identities:
            self._identities.popitem(last=False)
        return is_new


def retry_delay_s(failures: int, interval_s: float) -> float:
    """The pause before the next request: the interval, doubled for each failure in a row."""
    return min(max(interval_s, MAX_BACKOFF_S), interval_s * 2.0 ** min(failures, 16))


ItemsHandler = Callable[[list[FeedItem]], Awaitable[None]]
StateHandler = Callable[[FeedState], Awaitable[None]]


class FeedPoller:
    """Asks `url` for its feed every `interval_s`, and less often while that fails."""

    def __init__(
        self,
        http: ClientSession,
        url: str,
        *,
        interval_s: float = 3.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        timeout_s: float = REQUEST_TIMEOUT_S,
        seen: SeenIdentities | None = None,
    ) -> None:
        self._http = http
        self._url = URL(url)
        self._interval_s = interval_s
        self._max_body_bytes = max_body_bytes
        self._timeout = ClientTimeout(total=timeout_s)
        self._seen = seen if seen is not None else SeenIdentities()
        self._validators: dict[str, str] = {}
        self.state = FeedState()

    async def run(self, on_items: ItemsHandler, on_state: StateHandler) -> None:
        """Poll until cancelled. The handlers are awaited one at a time, new items before the state."""
        while True:
            items = await self.poll()
            if items:
                await on_items(items)
            await on_state(self.state)
            await asyncio.sleep(self.state.next_in_s)

    async def poll(self) -> list[FeedItem]:
        """The items that were not seen before, oldest first. How it went is in `state`; never raises FeedError."""
        status: Literal["ok", "unchanged", "error"] = "ok"
        error: FeedError | None = None
        items: list[FeedItem] = []
        try:
            fetched = await self._fetch()
            if fetched is None:
                status = "unchanged"
            else:
                items = [item for item in fetched if self._seen.add(item.identity)]
        except FeedError as feed_error:
            status, error = "error", feed_error
            logger.warning("feed: %s", feed_error)
        failures = self.state.failures + 1 if error else 0
        self.state = FeedState(
            status=status,
            error=str(error) if error else None,
            failures=failures,
            requests=self.state.requests + 1,
            checked_at=time.time(),
            next_in_s=max(retry_delay_s(failures, self._interval_s), error.retry_after_s if error else 0.0),
        )
        return items

    async def _fetch(self) -> list[FeedItem] | None:
        """The feed's items, or None if it says that nothing changed."""
        headers = {"Accept": "application/json, application/feed+json", **self._validators}
        try:
            async with self._http.get(self._url, headers=headers, timeout=self._timeout, max_redirects=5) as response:
                if response.status == 304:
                    return None
                if response.status != 200:
                    answer = f"{response.status} {response.reason or ''}".strip()
                    raise FeedError(f"The feed answered {answer}.", _retry_after_s(response))
                items = parse_feed(await self._read_body(response))
                # Only now: validators of a body that could not be used would turn it into a lasting 304.
                self._remember_validators(response)
                return items
        except TimeoutError as error:
            raise FeedError(f"The feed did not answer within {self._timeout.total:g} s.") from error
        except ClientConnectorError as error:
            raise FeedError(f"No connection to {error.host}:{error.port}.") from error
        except (ClientError, ValueError) as error:
            # Their texts can hold the whole address, and with it a key; their names cannot.
            raise FeedError(f"The request failed ({type(error).__name__}).") from error

    async def _read_body(self, response: ClientResponse) -> bytes:
        # Counted as it comes and after decompression: neither a length header nor its absence is to be trusted.
        body = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > self._max_body_bytes:
                response.close()
                raise FeedError(f"The feed is larger than {self._max_body_bytes} bytes.")
        return bytes(body)

    def _remember_validators(self, response: ClientResponse) -> None:
        self._validators = {}
        if etag := response.headers.get(hdrs.ETAG):
            self._validators[hdrs.IF_NONE_MATCH] = etag
        if last_modified := response.headers.get(hdrs.LAST_MODIFIED):
            self._validators[hdrs.IF_MODIFIED_SINCE] = last_modified


def _retry_after_s(response: ClientResponse) -> float:
    value = response.headers.get(hdrs.RETRY_AFTER, "")
    return min(float(value), 3600.0) if value.isascii() and value.isdigit() else 0.0


def public_address(url: str) -> str:
    """The feed's address as strangers may see it: no user, password, query or fragment."""
    return str(URL(url).with_user(None).with_query(None).with_fragment(None))
