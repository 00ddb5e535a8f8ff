"""Two hosts with workers, Redis, and nginx that asks them by turns, on a network of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from gateway.workers import control, runtime_dir

from .hub_redis import HubRedis, RedisSetup
from .netns import FRONT, Network, inside, network
from .servers import ROOT
from .waiting import eventually_sync, timeout_s

SECRET = "a secret of the whole cluster"
PORT = 8000
#: Of nginx, where clients of the hub find the cluster.
URL = f"http://{FRONT}.1:{PORT}"

#: In a directory and the hub's namespace.
MakeRedis = Callable[[Path, str], RedisSetup]

_NGINX = """\
{user}daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log info;
events {{ worker_connections 4096; }}
http {{
    log_format requests '$request_method $status $upstream_addr $request_time "$http_upgrade" $request_uri';
    access_log access.log requests;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    # By turns, whoever asks: docs/workers.md. Without max_fails=0 a host that was killed is not asked for 10 s.
    upstream gateway {{
        {servers}
        keepalive 64;
    }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering off;
            proxy_read_timeout 90s;
        }}
    }}
}}
"""


class Host:
    """``tidegate serve --workers 2`` in a namespace, which can die and be started again."""

    def __init__(self, folder: Path, made: Network, place: int, application: str, broker: str) -> None:
        folder.mkdir()
        self.place = place
        self.log_path = folder / "stderr.log"
        self._runtime_dir = folder / "run"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        self._environ = {
            **clean,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "TIDEGATE_RUNTIME_DIR": str(self._runtime_dir),
            "TIDEGATE_CLUSTER_SECRET": SECRET,
            # Of the settings, and for applications that set more than its URL.
            "TIDEGATE_BROKER": broker,
        }
        tidegate = str(Path(sys.executable).with_name("tidegate"))
        self._command = [*inside(made.hosts[place]), tidegate, "serve", application, "--workers", "2"]
        self._command += ["--host", made.front(place), "--port", str(PORT)]
        self._command += ["--cluster-listen", f"{made.back(place)}:7000"]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def status(self) -> dict[str, Any] | None:
        """What ``tidegate workers --json`` prints of it; None while it does not answer."""
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log[-8000:]}"
        for path in runtime_dir.controls(self._runtime_dir):
            answer = control.ask(path)
            if answer is not None and answer["pid"] == self.process.pid:
                return answer
        return None

    def workers(self) -> dict[str, int]:
        """Process ids of the workers that serve, by worker id."""
        status = self.status()
        return (
            {}
            if status is None
            else {each["id"]: each["pid"] for each in status["workers"] if each["state"] == "ready"}
        )

    def await_ready(self, without: str | None = None) -> None:
        """``without``: a worker that is on its way out."""
        eventually_sync(lambda: len(self.workers().keys() - {without}) == 2, "two workers that serve", 30)

    def end(self) -> int:
        """Ask it to stop; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s(30))

    def kill(self) -> None:
        """What a power cut does: the supervisor and its workers, at once."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for each in family:
            if each.is_running():
                each.kill()
        process.wait()
        psutil.wait_procs(family, timeout_s(10))


class TwoHosts:
    """``application``: as the command takes it, importable from the root of the repository."""

    def __init__(self, folder: Path, made: Network, application: str, query: str, make_redis: MakeRedis) -> None:
        self.folder = folder
        self.network = made
        self.redis = make_redis(folder, made.hub)
        broker = f"{self.redis.url}?{query}"
        self.hosts = [Host(folder / f"host-{place}", made, place, application, broker) for place in range(2)]
        self._nginx: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.redis.start()
        for host in self.hosts:
            host.start()
        self._start_nginx()
        for host in self.hosts:
            host.await_ready()

    def _start_nginx(self) -> None:
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None, "nginx is missing; scripts/test installs it"
        folder = self.folder / "nginx"
        folder.mkdir()
        servers = [f"server {self.network.front(place)}:{PORT} max_fails=0;" for place in range(len(self.hosts))]
        (folder / "nginx.conf").write_text(
            _NGINX.format(
                # As root, workers would become a user who may not enter the directories of tests.
                user="user root;\n" if os.geteuid() == 0 else "",
                servers=" ".join(servers),
                listen=f"{FRONT}.1:{PORT}",
            )
        )
        command = [*inside(self.network.hub), program, "-e", "error.log", "-p", str(folder), "-c", "nginx.conf"]
        self._nginx = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL)
        eventually_sync(lambda: (folder / "nginx.pid").exists(), f"nginx runs: {self.nginx_log()}")

    def nginx_log(self) -> str:
        path = self.folder / "nginx" / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def requests(self) -> list[str]:
        """The requests that are over: method, status, host, seconds, "Upgrade", target."""
        return (self.folder / "nginx" / "access.log").read_text(errors="replace").splitlines()

    def node(self, script: str, settings: str, **options: Any) -> subprocess.Popen[str]:
        """A script of ``tests/conformance/node`` in the hub."""
        return subprocess.Popen(
            [*inside(self.network.hub), "node", f"node/{script}", settings],
            cwd=ROOT / "tests" / "conformance",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def stop(self) -> None:
        """End everything at once."""
        for host in self.hosts:
            host.kill()
        if self._nginx is not None:
            self._nginx.terminate()
            self._nginx.wait(timeout_s(10))
        self.redis.kill()


@contextmanager
def two_hosts(
    folder: Path, application: str, query: str = "settle_s=1", make_redis: MakeRedis = HubRedis
) -> Iterator[TwoHosts]:
    """Running. Raises: NetworkError."""
    with ExitStack() as stack:
        made = stack.enter_context(network(2))
        hosts = TwoHosts(folder, made, application, query, make_redis)
        stack.callback(hosts.stop)
        hosts.start()
        yield hosts
