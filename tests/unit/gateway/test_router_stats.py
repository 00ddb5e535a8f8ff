"""The router's statistics, with a clock that the test moves."""

from gateway.stats import MovingAverage, Reading, Stats


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.reading = Reading(0, 0, 0)
        self.stats = Stats(lambda: self.now, lambda: self.reading)

    def pass_seconds(self, seconds: int, *, sent: int = 0, received: int = 0) -> None:
        """A second at a time, with so many packets in each."""
        for _ in range(seconds):
            self.now += 1
            before = self.reading
            self.reading = before._replace(
                packets_sent=before.packets_sent + sent, packets_recv=before.packets_recv + received
            )
            self.stats.sample()


def test_nothing_has_happened_yet() -> None:
    assert World().stats.dump() == {
        "active_sessions": 0,
        "max_sessions": 0,
        "active_connections": 0,
        "max_connections": 0,
        "connections_ps": 0.0,
        "packets_sent_ps": 0.0,
        "packets_recv_ps": 0.0,
        "loop_lag_s": 0.0,
        "max_loop_lag_s": 0.0,
    }


def test_lag_of_the_loop_is_told_as_it_is_read() -> None:
    world = World()
    world.reading = Reading(1, 0, 0, 0.002, 0.3)
    dump = world.stats.dump()
    assert (dump["loop_lag_s"], dump["max_loop_lag_s"]) == (0.002, 0.3)


def test_the_most_are_remembered() -> None:
    world = World()
    for sessions in (1, 2, 3):
        world.reading = Reading(sessions, 0, 0)
        world.stats.connection_opened()
    world.stats.connection_closed()
    world.reading = Reading(2, 0, 0)
    dump = world.stats.dump()
    assert (dump["active_sessions"], dump["max_sessions"]) == (2, 3)
    assert (dump["active_connections"], dump["max_connections"]) == (2, 3)


def test_packets_are_averaged_over_ten_seconds() -> None:
    world = World()
    world.stats.sample()
    world.pass_seconds(30, sent=100, received=7)
    assert world.stats.dump()["packets_sent_ps"] == 100
    assert world.stats.dump()["packets_recv_ps"] == 7
    world.pass_seconds(5)
    assert world.stats.dump()["packets_sent_ps"] == 50
    world.pass_seconds(5)
    assert world.stats.dump()["packets_sent_ps"] == 0


def test_the_first_seconds_are_averaged_over_what_there_is() -> None:
    world = World()
    world.stats.sample()
    world.pass_seconds(4, sent=10)
    assert world.stats.dump()["packets_sent_ps"] == 10


def test_a_burst_in_the_first_moment_is_no_more_than_itself_each_second() -> None:
    world = World()
    world.stats.sample()
    world.now += 0.001
    world.reading = Reading(1, 50, 0)
    assert world.stats.dump()["packets_sent_ps"] == 50


def test_connections_are_counted_each_second() -> None:
    world = World()
    world.stats.sample()
    for _ in range(10):
        world.stats.connection_opened()
        world.stats.connection_closed()
        world.pass_seconds(1)
    dump = world.stats.dump()
    assert (dump["connections_ps"], dump["active_connections"], dump["max_connections"]) == (1, 0, 1)


def test_after_a_pause_the_average_begins_anew() -> None:
    world = World()
    world.stats.sample()
    world.pass_seconds(10, sent=10)
    world.now += 3600
    world.reading = Reading(0, 5000, 0)
    assert world.stats.dump()["packets_sent_ps"] == 0
    world.pass_seconds(1, sent=3)
    assert world.stats.dump()["packets_sent_ps"] == 3


def test_it_moves_while_something_is_open_or_was_ten_seconds_ago() -> None:
    world = World()
    assert not world.stats.is_moving
    world.reading = Reading(1, 0, 0)
    assert world.stats.is_moving
    world.pass_seconds(20, sent=1)
    world.reading = world.reading._replace(sessions=0)
    world.pass_seconds(9)
    assert world.stats.is_moving
    world.pass_seconds(1)
    assert not world.stats.is_moving


def test_looking_often_costs_no_memory_and_no_exactness() -> None:
    average = MovingAverage()
    for tick in range(100_000):
        average.sample(tick / 1000, tick)
    assert len(average._samples) <= 13
    assert abs(average.per_second(100.0, 100_000) - 1000) < 1
