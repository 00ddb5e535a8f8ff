"""Clients that come, go, lose their connections and come back, in any order: each has each message once, in order.

The server is the real one, on a clock that the test moves; the reference is a list of what each client should have.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import gateway
from tests.model.phone import Phone
from tests.unit.transports.engine_doubles import running_loop

PHONES = 3
ROOMS = ("red", "blue")
WINDOW_S = 60.0
INTERVAL_S, TIMEOUT_S = 10.0, 8.0
QUESTION = "an answer, please"

phones = st.integers(0, PHONES - 1)
rooms = st.sampled_from(ROOMS)
targets = st.sampled_from((None, *ROOMS, ROOMS, 0, 1, 2))
maybe_room = st.sampled_from((None, None, None, *ROOMS))
maybe_phone = st.sampled_from((None, None, None, 0, 1, 2))


class Due:
    """What one client should have, since it last began anew."""

    def __init__(self) -> None:
        self.rooms: set[str] = set()
        self.reliable: list[int] = []
        self.newest: dict[str, int] = {}
        self.everything: set[int] = set()
        self.gone_at: float | None = None
        self.may_return = False
        #: Of its place; a client that was cut off before it was told does not know it.
        self.pid = ""
        #: Conflated messages may have had to wait for it, so that one may come twice.
        self.was_late = False


class RecoveryMachine(RuleBasedStateMachine):
    options: ClassVar[dict[str, Any]] = {}
    #: Whether whoever comes back in time must be recovered.
    is_certain = True

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.loop = self.stack.enter_context(running_loop())
        self.server = gateway.Server(
            recovery_s=WINDOW_S, ping_interval=INTERVAL_S, ping_timeout=TIMEOUT_S, **self.options
        )
        self.phones = [Phone(self.server, self.loop, is_stock=i > 0) for i in range(PHONES)]
        self.due = [Due() for _ in range(PHONES)]
        self.thinking: list[asyncio.Future[None] | None] = [None] * PHONES
        self.n = 0
        self.server.on("connect", self._on_connect)

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:
        assert set(auth) == {"phone", "slow"}, "pid and offset are none of the application's business"
        assert environ["tidegate.recovered"] == self.server.recovered(sid)
        if auth["slow"]:
            future = self.thinking[auth["phone"]] = self.loop.create_future()
            await future

    def teardown(self) -> None:
        try:
            for i in range(PHONES):
                self._decide(i)
                if self.phones[i].connection is None:
                    self._dial(i, slow=False)
                self._settle(i)
            assert self.loop.faults == []
        finally:
            self.stack.close()

    # -- what happens ------------------------------------------------------------------------------------

    @initialize()
    def everybody_comes(self) -> None:
        for i in range(PHONES):
            self._dial(i, slow=False)

    @rule(i=phones, slow=st.booleans())
    def come(self, i: int, slow: bool) -> None:
        if self.phones[i].connection is None:
            self._dial(i, slow=slow)

    @rule(i=phones)
    def accept(self, i: int) -> None:
        self._decide(i)

    @rule(i=phones, count=st.integers(0, 8), is_noticed=st.booleans())
    def lose(self, i: int, count: int, is_noticed: bool) -> None:
        phone = self.phones[i]
        if phone.connection is None:
            return
        phone.read(count)
        session = phone.connection.session
        phone.lose(is_noticed=is_noticed)
        self._decide(i)
        self.due[i].was_late |= session.conflated is not None
        if is_noticed:
            self._is_gone(i)

    @rule(i=phones, count=st.integers(1, 5))
    def read(self, i: int, count: int) -> None:
        if self.phones[i].connection is not None:
            self.phones[i].read(count)

    @rule(i=phones)
    def settle(self, i: int) -> None:
        if self.phones[i].connection is not None and self.thinking[i] is None:
            self._settle(i)

    @rule(i=phones, room=rooms)
    def enter(self, i: int, room: str) -> None:
        sid = self._sid(i)
        if sid is not None:
            self.loop.run(self.server.enter_room(sid, room))
            self.due[i].rooms.add(room)

    @rule(i=phones, room=rooms)
    def leave(self, i: int, room: str) -> None:
        sid = self._sid(i)
        if sid is not None:
            self.loop.run(self.server.leave_room(sid, room))
            self.due[i].rooms.discard(room)

    @rule(room=rooms)
    def close_room(self, room: str) -> None:
        self.loop.run(self.server.close_room(room))
        for due in self.due:
            due.rooms.discard(room)

    @rule(i=phones)
    def expel(self, i: int) -> None:
        place = self._place(i)
        if place is not None and self.thinking[i] is None:
            self.loop.run(self.server.disconnect(place.sid))
            self.loop.settle()
            self.due[i].may_return = False

    @rule(i=phones)
    def jam(self, i: int) -> None:
        connection = self.phones[i].connection
        if connection is not None:
            self.loop.settle()
            connection.port.writable = False
            self.due[i].was_late = True

    @rule(i=phones)
    def resume(self, i: int) -> None:
        connection = self.phones[i].connection
        if connection is not None and not connection.port.writable:
            connection.port.writable = True
            connection.session.port_resumed(connection.port)  # type: ignore[arg-type]

    @rule(seconds=st.sampled_from((0.5, 2.0, 12.0, 30.0, 70.0)))
    def wait(self, seconds: float) -> None:
        for _ in range(max(1, int(seconds / 2))):
            self.loop.advance(min(seconds, 2.0))
            for i, phone in enumerate(self.phones):
                connection = phone.connection
                if connection is None:
                    self._notice(i)
                    continue
                phone.read()
                if connection.session.closed or connection.session.closing:  # its ping could not be written
                    phone.lose(is_noticed=False)
                    self._decide(i)
                    self._notice(i)

    # -- messages ----------------------------------------------------------------------------------------

    @rule(to=targets, skipped=maybe_phone, excepted=maybe_room, again=st.integers(1, 3))
    def emit(self, to: Any, skipped: int | None, excepted: str | None, again: int) -> None:
        for _ in range(again):
            for due in self._emit(to, skipped, excepted, "text"):
                due.reliable.append(self.n)

    @rule(to=targets, key=st.sampled_from("xyz"), again=st.integers(1, 3))
    def emit_conflated(self, to: Any, key: str, again: int) -> None:
        for _ in range(again):
            for due in self._emit(to, None, None, key, conflate=key):
                due.newest[key] = self.n

    @rule(to=targets)
    def emit_volatile(self, to: Any) -> None:
        self._emit(to, None, None, "text", volatile=True)

    @rule(to=targets)
    def ask(self, to: Any) -> None:
        self._emit(to, None, None, QUESTION, callback=lambda *_: None)

    def _emit(self, target: Any, skipped: int | None, excepted: str | None, tail: str, **options: Any) -> list[Due]:
        self.n += 1
        sids = [self._any_sid(i) for i in range(PHONES)]
        room = sids[target] if isinstance(target, int) else target
        skip = None if skipped is None else sids[skipped]
        emitted = self.server.emit("event", (self.n, tail), room=room, skip_sid=skip, except_rooms=excepted, **options)
        self.loop.run(emitted)
        self.loop.settle()
        meant = []
        for i, due in enumerate(self.due):
            if self._place(i) is None or i == skipped or (excepted is not None and excepted in due.rooms):
                continue
            if (
                target is None
                or target == i
                or (isinstance(target, str) and target in due.rooms)
                or (isinstance(target, tuple) and due.rooms & set(target))
            ):
                due.everything.add(self.n)
                meant.append(due)
        return meant

    # -- the reference -----------------------------------------------------------------------------------

    def _now(self) -> float:
        return self.loop.time()

    def _place(self, i: int) -> Any:
        """The server's place of the client, which exists while messages may be for it."""
        member = self.phones[i].member
        if member is not None:
            return member.place
        pid = self.phones[i].pid
        recovery = self.server.recovery
        assert recovery is not None
        return None if pid is None else recovery.find(pid, "/", self._now())

    def _any_sid(self, i: int) -> str:
        place = self._place(i)
        return f"nobody-{i}" if place is None else place.sid

    def _sid(self, i: int) -> str | None:
        """Where the server takes the client for connected."""
        place = self._place(i)
        return place.sid if place is not None and place.occupant is not None else None

    def _notice(self, i: int) -> None:
        place = self._place(i)
        if place is None or place.occupant is None:
            self._is_gone(i)

    def _is_gone(self, i: int) -> None:
        if self.due[i].gone_at is None:
            self.due[i].gone_at = self._now()

    def _decide(self, i: int) -> None:
        future, self.thinking[i] = self.thinking[i], None
        if future is not None and not future.done():
            future.set_result(None)
        self.loop.settle()

    def _dial(self, i: int, slow: bool) -> None:
        phone, due = self.phones[i], self.due[i]
        phone.dial({"phone": i, "slow": slow})
        is_recovered = phone.member.place.is_recovered
        if self.is_certain:
            is_in_time = due.gone_at is None or self._now() - due.gone_at <= WINDOW_S
            knows_where = phone.offset != QUESTION  # cut off between an event for an ack and the offset behind it
            assert is_recovered == (due.may_return and is_in_time and phone.pid == due.pid and knows_where)
        if not is_recovered:
            due = self.due[i] = Due()
        due.gone_at = None
        due.may_return = True
        due.pid = phone.member.place.pid
        due.was_late |= slow
        assert set(phone.member.rooms or ()) == due.rooms

    def _settle(self, i: int) -> None:
        self.resume(i)
        phone, due = self.phones[i], self.due[i]
        phone.read()
        numbers = [n for n, _ in phone.seen]
        assert set(numbers) <= due.everything
        reliable = [n for n, tail in phone.seen if tail == "text" and n in set(due.reliable)]
        assert reliable == due.reliable
        for key in "xyz":
            of_key = [n for n, tail in phone.seen if tail == key]
            assert of_key == sorted(of_key)
            assert of_key[-1:] == ([due.newest[key]] if key in due.newest else [])
            if not due.was_late:
                assert len(of_key) == len(set(of_key))


class SmallLogMachine(RecoveryMachine):
    """The log does not always reach back: then the client is told, and never gets a part."""

    options: ClassVar[dict[str, Any]] = {"recovery_max_bytes": 3_500}
    is_certain = False


def _case(machine: type[RecoveryMachine]) -> type:
    case = machine.TestCase
    case.settings = settings(
        max_examples=100,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case


TestRecovery = _case(RecoveryMachine)
TestRecoveryWithASmallLog = _case(SmallLogMachine)
