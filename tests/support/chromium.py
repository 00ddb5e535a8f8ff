"""One Chromium, driven step by step by ``tests/networks/node/driver.mjs``."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pytest

from .servers import ROOT
from .waiting import eventually_sync, timeout_s

_DRIVER = ROOT / "tests" / "networks" / "node" / "driver.mjs"

#: ``tests/networks/node/tcp_proxy.mjs`` says what each does.
Mode = Literal["pass", "silence", "strand", "refuse", "drop"]


class Chromium:
    """The browser. Only the page that was opened or shown last is visible."""

    def __init__(self) -> None:
        if not (ROOT / "tests/conformance/node_modules").exists():
            pytest.fail("tests/conformance/node_modules is missing; scripts/test makes it", pytrace=False)
        self._errors = tempfile.NamedTemporaryFile(prefix="tidegate-driver-", suffix=".log")  # noqa: SIM115
        self._process = subprocess.Popen(
            ["node", str(_DRIVER), str(round(timeout_s(20) * 1000))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._last_id = 0
        #: Of the browser's processes, which are a group.
        self._group: int | None = None
        try:
            ready = self._next(timeout_s(30))
        except AssertionError:
            self._process.kill()
            self._process.wait()
            raise
        self._group = ready["pid"]
        self.version: str = ready["version"]

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            self._answers.put(line)
        self._answers.put("")

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"the browser's driver says nothing; {self._said()}") from None
        assert line, f"the browser's driver ended; {self._said()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        return f"its errors: {Path(self._errors.name).read_text(errors='replace')[-4000:]!r}"

    def call(self, method: str, *, seconds: float = 25.0, **arguments: Any) -> Any:
        """What a method of the driver returns. Raises: AssertionError where it fails, or takes that long."""
        self._last_id += 1
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"id": self._last_id, "method": method, **arguments}) + "\n")
        stdin.flush()
        # An answer that came too late for whoever asked is not ours.
        while (answer := self._next(timeout_s(seconds)))["id"] != self._last_id:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    @contextmanager
    def page(self, url: str) -> Iterator[Page]:
        page = Page(self, self.call("openPage", url=url))
        try:
            yield page
        finally:
            self.call("closePage", page=page.key)

    @contextmanager
    def network(self, target: str) -> Iterator[Network]:
        """A port that passes everything on to ``target``, a URL, until told otherwise."""
        opened = self.call("openNetwork", target=target)
        network = Network(self, opened["key"], opened["url"])
        try:
            yield network
        finally:
            self.call("closeNetwork", network=network.key)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing of the browser runs inside; its machine keeps the connections. Do not ask it anything meanwhile."""
        self.call("signalBrowser", name="SIGSTOP")
        try:
            yield
        finally:
            self.call("signalBrowser", name="SIGCONT")

    def close(self) -> None:
        """Raises: AssertionError where it does not end by itself."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.close()
            code = self._process.wait(timeout_s(30))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the browser's driver did not end; {self._said()}") from None
        finally:
            self._end_group()
            self._reader.join()
            stdout.close()
            said = self._said()
            self._errors.close()
        assert code == 0, f"the browser's driver ended with {code}; {said}"

    def _end_group(self) -> None:
        """What the driver has left running, if it could not end it."""
        if self._group is None:
            return
        try:
            os.killpg(self._group, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Page:
    """A tab. The faults are those of ``tests/networks/node/faults.mjs``, which says what each does."""

    def __init__(self, chromium: Chromium, key: str) -> None:
        self._chromium = chromium
        self.key = key

    def run(self, source: str, argument: Any = None, *, seconds: float = 25.0) -> Any:
        """What the JavaScript function ``source`` returns in the page; a promise is waited for."""
        return self._chromium.call("evaluate", page=self.key, source=source, argument=argument, seconds=seconds)

    def read(self, expression: str) -> Any:
        return self.run(f"() => ({expression})")

    def eventually(self, expression: str, seconds: float = 15.0) -> Any:
        """The value of ``expression`` once that is true. Raises: AssertionError with what the recorder has noted."""
        try:
            return eventually_sync(lambda: self.read(expression), f"in the page: {expression}", seconds)
        except AssertionError as error:
            noted = self.read("globalThis.recorder?.events")
            raise AssertionError(f"{error}; {noted}; {self.errors()}") from error

    def errors(self) -> list[str]:
        """Exceptions that nothing in the page caught."""
        errors: list[str] = self._chromium.call("pageErrors", page=self.key)
        return errors

    def _fault(self, name: str, *args: Any) -> Any:
        return self._chromium.call("fault", page=self.key, name=name, args=args)

    def cut_network(self) -> None:
        self._fault("cutNetwork")

    def restore_network(self) -> None:
        self._fault("restoreNetwork")

    def hide(self) -> None:
        self._fault("hide")

    def show(self) -> None:
        self._fault("show")

    def freeze(self) -> None:
        self._fault("freeze")

    def thaw(self) -> None:
        self._fault("thaw")

    def leave(self, url: str) -> None:
        self._fault("leave", url)

    def go_back(self) -> list[str]:
        """Why Chromium loaded the page anew, if it says so; empty where the page lay in the back/forward cache."""
        reasons: list[str] = self._fault("goBack")["why"]
        return reasons


class Network:
    """A TCP proxy between the browser and a server."""

    def __init__(self, chromium: Chromium, key: str, url: str) -> None:
        self._chromium = chromium
        self.key = key
        self.url = url

    def set(self, mode: Mode) -> None:
        self._chromium.call("setNetwork", network=self.key, mode=mode)

    def connections(self) -> int:
        count: int = self._chromium.call("countConnections", network=self.key)
        return count
