"""A market that exists nowhere: prices that move, news about them, and a pulse."""

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from aiohttp import web

import gateway

SYMBOLS = (
    *("ALGA", "BRIG", "CORE", "DUNE", "EBBS", "FJRD", "GULF", "HELM", "ISLE", "JETY", "KELP", "LOCH"),
    *("MOLE", "NEAP", "OARS", "PIER", "QUAY", "REEF", "SURF", "TIDE", "ULVA", "VEER", "WAVE", "YAWL"),
)
REMEMBERED_NEWS = 8
NEWS_EVERY_S = 2.0
PULSES_PER_S = 4.0
_VERBS = ("rises with the tide", "runs aground", "sets sail", "drops anchor", "rides the swell", "is becalmed")


@dataclass(slots=True)
class Quote:
    """``n`` counts the changes of this price; ``t`` is when it last changed."""

    symbol: str
    price: float
    n: int = 0
    t: float = 0.0


class Market:
    """Sends `price` conflated by its symbol, `news` reliably and `pulse` volatile, as long as the application runs."""

    def __init__(self, server: gateway.Server, changes_per_s: float) -> None:
        """changes_per_s: of each price."""
        self.quotes = {symbol: Quote(symbol, round(random.uniform(20, 400), 2)) for symbol in SYMBOLS}
        self.news_n = 0
        self._news: deque[dict[str, object]] = deque(maxlen=REMEMBERED_NEWS)
        self._server = server
        self._changes_per_s = changes_per_s
        self._epoch = secrets.token_hex(4)
        self._pulse_n = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._round = asyncio.Lock()
        # A policy, to show one: it goes for every emit of this event to the whole namespace.
        server.set_delivery(None, "volatile", event="pulse")
        server.on("connect", self.welcome)

    async def welcome(self, sid: str, environ: dict[str, object], auth: object = None) -> None:
        if self._server.recovered(sid):
            return  # it is sent the news that it has missed, and the newest price of each symbol
        welcome = {
            "epoch": self._epoch,
            "quotes": [asdict(quote) for quote in self.quotes.values()],
            "news": list(self._news),
            "changes_per_s": self._changes_per_s,
        }
        await self._server.emit("welcome", welcome, to=sid)

    async def close(self) -> None:
        """No price changes any more, and there is no more news."""
        self._is_open.clear()
        async with self._round:
            pass  # one that had begun is over

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work()) for work in (self._trade, self._report, self._beat)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _trade(self) -> None:
        quotes = list(self.quotes.values())
        while await self._is_open.wait():
            random.shuffle(quotes)
            async with self._round:
                for quote in quotes:
                    quote.price = round(max(1.0, quote.price * random.gauss(1, 0.0015)), 2)
                    quote.n += 1
                    quote.t = round(time.time(), 3)
                    await self._server.emit("price", asdict(quote), conflate=quote.symbol)
            await asyncio.sleep(1 / self._changes_per_s)

    async def _report(self) -> None:
        while await self._is_open.wait():
            self.news_n += 1
            text = f"{random.choice(SYMBOLS)} {random.choice(_VERBS)}"
            news = {"n": self.news_n, "t": round(time.time(), 3), "text": text}
            self._news.append(news)
            await self._server.emit("news", news)
            await asyncio.sleep(NEWS_EVERY_S)

    async def _beat(self) -> None:
        while True:
            self._pulse_n += 1
            await self._server.emit("pulse", {"n": self._pulse_n, "t": round(time.time(), 3)})
            await asyncio.sleep(1 / PULSES_PER_S)
