"""What ``benchmarks.scaling`` makes of samples and runs; the measuring itself is not tested here."""

from __future__ import annotations

import pytest

from benchmarks import nodes, table
from benchmarks.forwarded_polls import as_table as polls_as_table
from benchmarks.forwarded_polls import parse_response
from benchmarks.measure import Faults
from benchmarks.redis_fan_out import command
from benchmarks.scaling import CELLS, Cell, Entry, Used, as_table, dearer, figures_of, hops

RESULT = {"deliveries": 4010, "deliveries_per_s": 2005.0, "seconds": 2.0, "lat_p50_us": 1500.0, "lat_p99_us": 9000.0}
BEFORE = Used([1.0, 2.0], redis=0.5, load=3.0, everything=100.0)
AFTER = Used([1.02, 2.01], redis=0.504, load=3.2, everything=100.434)

(W4,) = [cell for cell in CELLS if cell.name == "redis-w4"]
(HOP,) = [cell for cell in CELLS if cell.name == "hop"]


def entries(**nodes_us: float) -> dict[str, Entry]:
    return {
        getattr(nodes, name): Entry([{"nodes_us": value, "redis_us": 20.0, "deliveries_per_s": 1000.0}])
        for name, value in nodes_us.items()
    }


def test_cpu_is_divided_by_deliveries_and_that_of_redis_by_broadcasts_too() -> None:
    figures = figures_of(RESULT, BEFORE, AFTER, receivers=401, per="delivery")
    assert figures["nodes_us"] == pytest.approx(0.03e6 / 4010)
    assert (figures["first_us"], figures["last_us"]) == pytest.approx((0.02e6 / 4010, 0.01e6 / 4010))
    assert figures["redis_us"] == pytest.approx(0.004e6 / 4010)
    assert figures["redis_us_per_broadcast"] == pytest.approx(400.0)
    assert (figures["p50_ms"], figures["p99_ms"], figures["broadcasts_per_s"]) == pytest.approx((1.5, 9.0, 5.0))


def test_cpu_of_others_is_what_neither_nodes_nor_redis_nor_load_used() -> None:
    figures = figures_of(RESULT, BEFORE, AFTER, receivers=401, per="delivery")
    assert figures["load_pct"] == pytest.approx(10.0)
    assert figures["other_pct"] == pytest.approx(10.0)


def test_a_cell_of_messages_divides_by_broadcasts() -> None:
    figures = figures_of(RESULT, BEFORE, AFTER, receivers=2, per="message")
    assert figures["nodes_us"] == pytest.approx(0.03e6 / 2005)
    assert figures["redis_us"] == figures["redis_us_per_broadcast"] == pytest.approx(0.004e6 / 2005)


def test_a_run_that_delivered_nothing_has_no_figures() -> None:
    assert figures_of({**RESULT, "deliveries": 0}, BEFORE, AFTER, receivers=401, per="delivery") == {}


def test_clients_are_on_both_nodes_by_turns_or_on_the_last() -> None:
    both = W4.load_options([1111, 2222], 3)
    assert both[:4] == ["--port", "1111", "--pub-port", "1111"]
    assert both[both.index("--second-port") + 1] == "2222"
    far = HOP.load_options([1111, 2222], 3)
    assert far[:4] == ["--port", "2222", "--pub-port", "1111"]
    assert "--second-port" not in far
    assert "--second-port" not in W4.load_options([1111], 3)


def test_an_open_loop_has_no_window() -> None:
    options = Cell("open", "open", (), rate=40).load_options([1], 3)
    assert options[-2:] == ["--rate", "40"]
    assert "--window" not in options


def test_the_table_shows_medians_spread_ratios_faults_and_noise() -> None:
    found = entries(TIDEGATE_REDIS=3.0, NODE_REDIS=12.0, NODE_STREAMS=15.0)
    ours = found[nodes.TIDEGATE_REDIS]
    ours.runs += [{"nodes_us": 9.0, "other_pct": 50.0}, {"nodes_us": 4.0, "other_pct": 2.0}]
    ours.faults = Faults(missing=1, reordered=2)
    row = as_table(W4, found).rows[0]
    assert row[:3] == ["tidegate, Redis", "4.00", "3.00 to 9.00"]
    assert row[-3:] == ["0.33", "0.27", "FAULTS 1/0/2; 1 of 3 runs NOISY"]


def test_what_could_not_be_measured_is_a_dash_with_its_reason() -> None:
    text = table.as_text(as_table(W4, {nodes.NODE_REDIS: Entry(errors=["exited with 1: no output"])}))
    assert "exited with 1: no output" in text
    assert text.splitlines()[1].split()[2:4] == ["-", "-"]


def test_where_tidegate_is_dearer_is_said() -> None:
    found = entries(TIDEGATE_REDIS=3.0, TIDEGATE_DURABLE=13.0, NODE_REDIS=12.0, NODE_STREAMS=15.0)
    assert list(dearer(W4, found)) == ["redis-w4: tidegate, Redis, durable costs 1.08 of Node, redis-adapter"]


def test_a_hop_is_what_a_message_costs_beyond_one_process() -> None:
    found = entries(TIDEGATE_REDIS=150.0, NODE_REDIS=260.0, TIDEGATE_ALONE=50.0, NODE_ALONE=60.0)
    assert hops(found).rows == [
        ["tidegate, Redis", "100.0", "20.0", "120.0"],
        ["Node, redis-adapter", "200.0", "20.0", "220.0"],
    ]


def test_a_hop_without_its_process_alone_is_not_guessed() -> None:
    assert hops(entries(TIDEGATE_REDIS=150.0)).rows == [["tidegate, Redis", "-", "-", "-"]]


def test_a_poll_that_the_other_node_refuses_shows_the_refusal() -> None:
    found = {
        "ours": {"direct_us": 100.0, "passed_on_us": 250.0},
        "theirs": {"direct_us": 90.0, "refused": "400 unknown"},
    }
    assert polls_as_table(found).rows == [["ours", "100", "250", "+150"], ["theirs", "90", "400 unknown", "-"]]


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
def test_a_response_is_whole_at_its_last_byte(response: bytes) -> None:
    assert parse_response(response) == (400, b"hello")
    last = len(response) - (2 if b"chunked" in response else 0)  # the last chunk needs its size alone
    assert all(parse_response(response[:n]) is None for n in range(last - 2))


def test_a_family_is_a_process_and_its_descendants() -> None:
    assert sorted(nodes.family(10, {10: 1, 11: 10, 12: 11, 13: 1, 14: 13})) == [10, 11, 12]


def test_busy_ticks_leave_idle_waiting_and_guests_out() -> None:
    assert nodes.busy_ticks("cpu  100 20 30 4000 500 6 7 80 9 10") == 163


def test_a_command_tells_the_length_of_each_word() -> None:
    assert command(b"PUBLISH", b"room", b"a\r\nb") == b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$4\r\na\r\nb\r\n"
