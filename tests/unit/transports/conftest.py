"""Every test here runs on a loop whose clock stands still until the test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import FakeExchange, FakeLoop, FakePort, request, running_loop
from transports.engine import Engine
from transports.request import HttpRequest
from transports.session import Session


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    with running_loop() as loop:
        yield loop


@pytest.fixture
def make_engine(loop: FakeLoop) -> Callable[..., Engine]:
    return Engine


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()


@pytest.fixture
def open_session(loop: FakeLoop) -> Callable[..., tuple[Session, FakePort]]:
    """A session that is open on a port that records."""

    def open_one(engine: Engine, port: FakePort | None = None) -> tuple[Session, FakePort]:
        port = port or FakePort()
        session = engine.create_session(request("EIO=4&transport=polling"))
        session.open(port)
        return session, port

    return open_one


@pytest.fixture
def ask(loop: FakeLoop) -> Callable[..., FakeExchange]:
    """Send a request to an engine and let the loop settle; the exchange."""

    def ask(engine: Engine, asked: HttpRequest | str, body: bytes | None = b"", **options: Any) -> FakeExchange:
        exchange = FakeExchange(request(asked, **options) if isinstance(asked, str) else asked, body)
        engine.handle(exchange)
        loop.settle()
        return exchange

    return ask
