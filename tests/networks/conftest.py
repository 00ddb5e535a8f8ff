"""A browser, and the server behind the networks under test."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import Chromium
from tests.support.nginx import Nginx
from tests.support.servers import ServerProcess
from tests.support.waiting import timeout_s

_names = count(1)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One for the module: it takes most of a second to start."""
    with Chromium() as chromium:
        yield chromium


@dataclass(frozen=True)
class Numbers:
    """``tests.networks.server``, asked directly and not through what stands before it."""

    process: ServerProcess

    @property
    def port(self) -> int:
        return self.process.port

    def page(self, base: str, client: str, script: str = "tidegate-client.min.js") -> str:
        """The URL of a page whose sockets the server counts under ``client``; ``base`` is where the browser gets it."""
        return f"{base}/page?script={script}&client={client}"

    def client(self, name: str) -> dict[str, Any]:
        """What the server knows of a client. Raises: AssertionError where that never connected."""
        return self._ask("GET", f"/clients/{name}")

    def burst(self, name: str, count: int, *, every_ms: float = 0, size: int = 0) -> None:
        """Begin to send a client the next numbers, connected or not."""
        self._ask("POST", f"/clients/{name}/burst?count={count}&every_ms={every_ms}&size={size}")

    def _ask(self, method: str, target: str) -> Any:
        request = urllib.request.Request(self.process.url + target, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s(10)) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {target}: {error}") from error


@pytest.fixture
def numbers(server_process: Callable[..., ServerProcess]) -> Callable[..., Numbers]:
    """Gives the server with these options of ``gateway.Server``, shared by all tests that ask for the same."""
    return lambda **options: Numbers(server_process(module="tests.networks.server", **options))


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Starts ``Nginx(directory, …)``, which ends with the test."""
    started: list[Nginx] = []

    def start(upstream_port: int, setup: str = "plain", **options: Any) -> Nginx:
        one = Nginx(tmp_path / f"nginx-{len(started)}", upstream_port, setup, **options)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def client_name() -> str:
    """One that no other test uses, since they may share a server."""
    return f"client-{next(_names)}"
