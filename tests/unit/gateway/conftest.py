"""A server without sockets: clients whose packets are put in and read back, on a loop the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gateway
from gateway.members import Member
from tests.unit.transports.engine_doubles import FakeLoop, FakePort, request, running_loop
from transports.session import Session


class InMemoryClient:
    """One connection: what it sends goes straight to the session, what it is sent lies in ``port.written``."""

    def __init__(self, server: gateway.Server, loop: FakeLoop) -> None:
        self.server = server
        self.loop = loop
        self.port = FakePort("websocket")
        self.session: Session = server.eio.create_session(request("EIO=4&transport=websocket"))
        server.session_opens(self.session)
        self.session.open(self.port)  # type: ignore[arg-type]

    def send(self, *parts: str | bytes) -> None:
        """Socket.IO packets, without Engine.IO's type character."""
        for part in parts:
            self.session.receive_message(self.port, part)  # type: ignore[arg-type]
        self.loop.settle()

    def received(self) -> list[Any]:
        """What came since the last call, text without Engine.IO's type character."""
        self.loop.settle()
        written, self.port.written = self.port.written, []
        return [part[1:].decode() if part[:1] == b"4" else part for part in written]

    def connect(self, namespace: str = "/", auth: str = "") -> str:
        """Join a namespace; the socket id."""
        self.send("0" + ("" if namespace == "/" else namespace + ",") + auth)
        answers = self.received()
        assert answers[0].startswith("0"), answers
        return self.session.application.members[namespace].sid

    def member(self, namespace: str = "/") -> Member:
        member: Member = self.session.application.members[namespace]
        return member


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    with running_loop() as loop:
        yield loop


@pytest.fixture
def make_server(loop: FakeLoop) -> Callable[..., gateway.Server]:
    def make_server(**options: Any) -> gateway.Server:
        server = gateway.Server(**options)
        assert server.eio.loop is loop
        return server

    return make_server


@pytest.fixture
def server(make_server: Callable[..., gateway.Server]) -> gateway.Server:
    return make_server()


@pytest.fixture
def join(loop: FakeLoop) -> Callable[..., InMemoryClient]:
    """A client that is connected to a namespace."""

    def join(server: gateway.Server, namespace: str = "/") -> InMemoryClient:
        client = InMemoryClient(server, loop)
        client.connect(namespace)
        return client

    return join
