"""The layers, and who may import what."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.guards.source_tree import ROOT, imports, modules, own_module
from tests.support.waiting import timeout_s

#: The layers of ``transports`` from the ground up: a module imports those of earlier lines, or earlier in its line.
LAYERS = (
    ("transports",),
    (
        "transports.reasons",
        "transports.refusals",
        "transports.catalogue",
        "transports.errors",
        "transports.counters",
        "transports.eager",
    ),
    ("transports.accelerator", "transports.socket_writer", "transports.eager_twin", "transports.eager"),
    ("transports.refusal_log", "transports.forwarded", "transports.request"),
    (
        "transports.protocol",
        "transports.protocol.packets",
        "transports.protocol.frames",
        "transports.protocol.http1",
        "transports.protocol.relaying",
        "transports.protocol.content_coding",
        "transports.protocol.timing_wheel",
        "transports.protocol.lifecycle",
        "transports.protocol.websocket_handshake",
        "transports.protocol.permessage_deflate",
    ),
    (
        "transports.outbound",
        "transports.conflation",
        "transports.ports",
        "transports.replay",
        "transports.timers",
        "transports.loop_lag",
        "transports.cors",
    ),
    ("transports.admission", "transports.budget", "transports.intake", "transports.session_ids"),
    ("transports.websocket_connection", "transports.websocket", "transports.polling", "transports.xhr_streaming"),
    ("transports.session", "transports.flushing"),
    ("transports.negotiation",),
    ("transports.engine",),
    ("transports.relaying", "transports.relaying.splice", "transports.relaying.link", "transports.relaying.connection"),
    ("transports.hosts", "transports.hosts.bodies", "transports.hosts.unsent"),
    ("transports.hosts.listener", "transports.hosts.aiohttp"),
    ("transports.peers", "transports.peers.handover", "transports.peers.links"),
    ("transports.peers.registry", "transports.peers.greeting", "transports.peers.cluster"),
    ("transports.peers.forwarder",),
)
RANK = {name: rank for rank, name in enumerate(name for line in LAYERS for name in line)}

#: What would tie the pure machines to a clock, a loop, chance or the network.
IMPURE = {
    "asyncio",
    "concurrent",
    "datetime",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uvloop",
    "aiohttp",
    "socketio",
    "engineio",
}
PURE = [
    "gateway.message_log",
    "gateway.recovery",
    "transports.accelerator",
    "transports.catalogue",
    "transports.conflation",
    "transports.errors",
    "transports.forwarded",
    "transports.outbound",
    "transports.reasons",
    "transports.refusals",
    "transports.request",
]

#: Those of ``gateway``.
PURE_OF_GATEWAY = ["gateway.once"]

#: Who may know a library: everything else goes by way of them.
LIBRARIES = {
    "engineio": {"transports.engine"},
    "socketio": {
        "gateway",  # passes on public names
        "gateway.server",
        "gateway.channels",
        "gateway.codec",
        "gateway.dispatch",
        "gateway.admin",
        "gateway.membership",  # exceptions
        "gateway.router",  # exceptions
    },
    "uvloop": {"gateway.runner"},
    "orjson": {
        "gateway.codec",
        "gateway.connection",
        "gateway.logs",
        "gateway.router",
        "transports.engine",
        "transports.negotiation",
    },
    "msgpack": {
        "gateway.codec",
        "gateway.envelope",
        "gateway.node_messages",
        "gateway.brokers.core",
        "gateway.brokers.unix",
    },
    "redis": set(),  # docs/design/brokers.md says why
}

#: What brokers may know beside each other: they are given callbacks, and know neither clients nor rooms.
BELOW_BROKERS = {"gateway.envelope", "transports.accelerator", "transports.session_ids", "gateway", "transports"}


def roots(name: str) -> set[str]:
    return {found.name.partition(".")[0] for found in imports(name)}


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("transports")])
def test_transports_never_imports_gateway(name: str) -> None:
    assert "gateway" not in roots(name)


@pytest.mark.parametrize("name", [*PURE, *(name for name in modules() if name.startswith("transports.protocol"))])
def test_pure_modules_know_no_clock_no_loop_and_no_chance(name: str) -> None:
    assert not roots(name) & IMPURE
    for found in imports(name):
        own = own_module(found.name)
        if own is not None and own != "transports":
            assert own in PURE or own.startswith("transports.protocol"), f"{name} imports {own}, which is above it"


@pytest.mark.parametrize("name", PURE_OF_GATEWAY)
def test_pure_modules_of_the_gateway_import_nothing_of_ours(name: str) -> None:
    assert not roots(name) & (IMPURE | {"gateway", "transports"})


def test_every_module_of_transports_has_its_layer() -> None:
    assert set(RANK) == {name for name in modules() if name.startswith("transports")}


@pytest.mark.parametrize("name", RANK)
def test_layers_import_downwards(name: str) -> None:
    for found in imports(name):
        own = own_module(found.name)
        if own is not None and own != name and found.is_runtime and found.is_immediate:
            assert RANK[own] < RANK[name], f"{name} imports {own}, which is above it"


@pytest.mark.parametrize("library", LIBRARIES)
def test_library_is_known_to_its_modules_alone(library: str) -> None:
    users = {name for name in modules() if library in roots(name)}
    assert users - LIBRARIES[library] == set(), f"{library} is imported where HOUSE_STYLE does not name it"


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("gateway.brokers")])
def test_brokers_know_nothing_of_what_uses_them(name: str) -> None:
    known = {own for found in imports(name) if (own := own_module(found.name)) is not None}
    assert {own for own in known if not own.startswith("gateway.brokers")} <= BELOW_BROKERS


def test_envelopes_know_no_broker() -> None:
    assert {own_module(found.name) for found in imports("gateway.envelope")} <= {None, "transports.accelerator"}


@pytest.mark.parametrize("name", ["gateway.envelope", "gateway.brokers.frames", "gateway.brokers.resp"])
def test_codecs_between_nodes_know_no_clock_and_no_loop(name: str) -> None:
    assert not roots(name) & (IMPURE - {"os"})


def test_concrete_brokers_are_named_where_urls_are_read_alone() -> None:
    concrete = {"gateway.brokers.memory", "gateway.brokers.unix", "gateway.brokers.redis"}
    users = {
        name
        for name in modules()
        if not name.startswith("gateway.brokers") and concrete & {own_module(found.name) for found in imports(name)}
    }
    assert users == {"gateway.broker_urls"}


@pytest.mark.parametrize(
    "name", ["gateway.topics", "gateway.encoded_events", "gateway.node_messages", "gateway.foreign_messages"]
)
def test_what_nodes_say_is_read_without_clock_and_loop(name: str) -> None:
    assert not roots(name) & IMPURE


def test_web_framework_is_known_to_the_upper_layers_alone() -> None:
    users = {name for name in modules() if "aiohttp" in roots(name) and name.startswith("transports")}
    assert users == {"transports.hosts.aiohttp"}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {
            own
            for found in imports(name)
            if found.is_runtime and found.is_immediate
            if (own := own_module(found.name)) is not None and own != name
        }
        for name in modules()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


#: The libraries first, once for all: they would be most of each import.
_IMPORT_EACH = """
import os, sys, traceback
import aiohttp.web, socketio.admin, socketio.async_admin, msgpack, orjson
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            __import__(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(" ".join(failed))
"""


@pytest.mark.timeout(timeout_s(300))
def test_every_module_can_be_imported_alone_and_warns_of_nothing() -> None:
    names = [name for name in modules() if name != "gateway.__main__"]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IMPORT_EACH, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s(280),
        check=True,
    )
    assert ended.stdout.split() == [], ended.stderr[-4000:]


def test_transports_needs_neither_gateway_nor_socketio() -> None:
    script = (
        "import sys, transports.engine, transports.hosts.listener, transports.hosts.aiohttp\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'gateway', 'socketio', 'uvloop'}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s(60), check=True
    )
    assert ended.stdout.split() == []
