"""The directory in which the processes of one supervisor meet: its control socket, and one socket of each worker.

::

    <runtime_dir>/           ours alone (0700)
      4711/                  the supervisor's process id
        control.sock         asked by `tidegate workers`
        abcdefg.sock         one for each worker, by its id
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from transports.peers.forwarder import MAX_PATH_BYTES, socket_path

CONTROL = "control.sock"


class RuntimeDirError(Exception):
    """The directory cannot be used."""


def base(configured: Path | None, environ: Mapping[str, str]) -> Path:
    """Where supervisors have their directories."""
    if configured is not None:
        return configured.absolute()
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"], "tidegate")
    return Path(tempfile.gettempdir(), f"tidegate-{os.geteuid()}")


def create(folder: Path) -> Path:
    """The directory of this process, below ``folder``; what dead supervisors have left there is removed.

    Raises: RuntimeDirError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise RuntimeDirError(f"{folder} is no directory")
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise RuntimeDirError(f"{folder} can be written by other users; make it one of our own, with mode 0700")
        for control in controls(folder):
            if ask_is_dead(control):
                shutil.rmtree(control.parent, ignore_errors=True)
        own = folder / str(os.getpid())
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(mode=0o700)
    except OSError as error:
        raise RuntimeDirError(f"cannot use {folder}: {error.strerror or error}") from None
    if len(os.fsencode(socket_path(own, "x" * 7))) > MAX_PATH_BYTES:
        raise RuntimeDirError(f"{folder} is too long a path for Unix sockets")
    return own


def controls(folder: Path) -> list[Path]:
    """The control sockets of all supervisors, dead ones included."""
    return sorted(folder.glob(f"[0-9]*/{CONTROL}"))


def ask_is_dead(control: Path) -> bool:
    """Whether nobody listens at the socket any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(control))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False
