"""The wheel, installed where nothing else is."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.support.waiting import eventually_sync, timeout_s

ROOT = Path(__file__).parent.parent.parent
BUILD_S = 240
RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")

pytestmark = pytest.mark.timeout(600)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "PYTHON"))}


def run(*command: str | Path, cwd: Path) -> str:
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s(BUILD_S),
        check=False,
    )
    assert ended.returncode == 0, (
        f"{command} ended with {ended.returncode}:\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    )
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tree; without isolation where the build back end is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", "--wheel", *options, "--outdir", folder, ROOT, cwd=folder)
    [built] = folder.glob("tidegate-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an empty environment that has the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    constraints = ["--constraint", str(ROOT / "constraints.txt")] if (ROOT / "constraints.txt").exists() else []
    run(programs / "python", "-m", "pip", "install", "--quiet", "--no-input", *constraints, str(wheel), cwd=folder)
    return programs


def test_wheel_holds_the_packages_their_files_the_accelerator_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"gateway", "transports"}
    for package in ("gateway", "transports"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
                assert path.relative_to(ROOT).as_posix() in names
    assert [name for name in names if name.endswith(".so")] == ["transports/_accelerator" + EXTENSION_SUFFIXES[0]]
    assert not [name for name in names if "__pycache__" in name or name.endswith(".map")]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "\nDescription-Content-Type: text/markdown" in metadata


def test_installed_command_serves_page_client_and_handshake(installed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [installed / "tidegate", "serve", "--demo", "--port", "0"],
            cwd=tmp_path,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )

    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(url + path, timeout=timeout_s(10)) as response:
            content: bytes = response.read()
            return content

    try:
        url = eventually_sync(lambda: RUNNING.search(log.read_text()), "the address in the log", 30)[1]
        assert b"<html" in fetch("/").lower()
        assert len(fetch("/socket.io/tidegate-client.min.js")) > 10_000
        assert len(fetch("/socket.io/socket.io.js")) > 10_000
        opening = fetch("/socket.io/?EIO=4&transport=polling").decode()
        assert opening.startswith("0")
        assert json.loads(opening[1:])["upgrades"] == ["websocket"]
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(timeout_s(15)) == 0, log.read_text()
        assert time.monotonic() - began < timeout_s(13)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def test_installed_version_is_that_of_the_wheel(installed: Path, wheel: Path, tmp_path: Path) -> None:
    assert run(installed / "tidegate", "--version", cwd=tmp_path).split() == ["tidegate", wheel.name.split("-")[1]]


def test_installed_packages_are_typed(installed: Path, tmp_path: Path) -> None:
    script = (
        "import gateway, transports, pathlib\n"
        "print(*[(pathlib.Path(p.__file__).parent / 'py.typed').exists() for p in (gateway, transports)])"
    )
    assert run(installed / "python", "-c", script, cwd=tmp_path).split() == ["True", "True"]
