"""Sidecars and apps in a real world, as a node agent would start them, and storage servers on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.fuse.install import install_standin
from headrace.sandbox.testing import RunningWorld, read_log

BIN = Path(sys.executable).parent
DATA = "/runtime-mnt/thin/ns/set/thin-fuse"
TARGET = f"{DATA}/ds"
_WITHIN_S = 30.0


def wait_until(happens: Callable[[], Any], what: str, within_s: float = _WITHIN_S) -> Any:
    """Return the first true value of `happens`, failing with `what` after the deadline."""
    end = time.monotonic() + within_s
    while True:
        value = happens()
        if value:
            return value
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


class Pods:
    """One volume with its sidecar and apps in a world.

    Args:
        storage: a directory that the world can reach, for what clients store in files.
    """

    def __init__(self, world: RunningWorld, storage: Path) -> None:
        self.world = world
        self.storage = storage
        self.place = Path(world.directory) / "volume"
        self.data, self.sockets, self.etc = self.place / "data", self.place / "sockets", self.place / "etc"
        self._control = Path(world.directory) / "broker"
        self._count = 0
        directory = str(self.place)
        made = self.command("mkdir", "-p", str(self.data), str(self.sockets), str(self.place / "cache"))
        assert made["exit_code"] == 0, made
        world.client.call("mount.tmpfs", target=str(self.data), size_bytes=1 << 20, mode=0o755)
        world.client.call(
            "service.start",
            service="broker",
            argv=[sys.executable, "-m", "headrace.fuse.broker", "--directory", str(self._control)],
            log={"path": f"{directory}/broker.log"},
            restart=True,
        )
        registered = self.order("register", id="v", data_dir=str(self.data), socket_dir=str(self.sockets))
        assert registered["ok"], registered
        install_standin(str(self.sockets / "bin"), seen_at="/run/headrace/bin", socket="/run/headrace/fuse/broker.sock")
        world.client.call("pod.create", pod="p")

    def command(self, *argv: str) -> dict[str, Any]:
        """Run a command in the world's own namespaces."""
        return self.world.client.call("run", argv=list(argv), timeout_s=15)

    def order(self, op: str, **fields: Any) -> dict[str, Any]:
        """Give the broker an order."""

        def connect() -> socket.socket | None:
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(f"{self._control}/control.sock")
            except OSError:
                control.close()
                return None
            return control

        with wait_until(connect, "the broker listens") as control, control.makefile("rwb") as stream:
            control.settimeout(_WITHIN_S)
            stream.write(json.dumps({"op": op, **fields}).encode() + b"\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
            return answer

    def sidecar(
        self,
        client: str,
        mount: Mapping[str, Any],
        *,
        files: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
    ) -> str:
        """Start a client's container and return its name."""
        self._count += 1
        name = f"client-{self._count}"
        written = {
            "config/config.json": json.dumps({"mounts": [mount], "targetPath": TARGET, **(config or {})}),
            **{f"secrets/{path}": text for path, text in (files or {}).items()},
        }
        etc = self.place / f"etc-{self._count}"
        for path, text in written.items():
            (etc / path).parent.mkdir(parents=True, exist_ok=True)
            (etc / path).write_text(text)
        mounts = [
            {"target": "/tmp", "tmpfs": {"mode": 0o1777}},
            {"target": DATA, "source": str(self.data), "propagation": "HostToContainer"},
            {"target": "/run/headrace/fuse", "source": str(self.sockets), "read_only": True},
            {"target": "/run/headrace/bin", "source": str(self.sockets / "bin"), "read_only": True},
            {"target": "/etc/fluid", "source": str(etc), "read_only": True},
            {"target": "/var/cache/fluid-fuse", "source": str(self.place / "cache")},
            {"target": str(self.storage), "source": str(self.storage)},
        ]
        self.world.start(
            "p",
            name,
            [sys.executable, "-m", f"headrace.fuse.clients.{client}", *arguments],
            mounts=mounts,
            termination_message_path="/dev/termination-log",
        )
        return name

    def served(self) -> None:
        """Wait until the client serves its mount."""
        answer = self.order("wait", id="v", timeout_s=20, until=["served"])
        assert answer["state"] == "served", (answer, self.logs())

    def app(self, code: str, **order: Any) -> tuple[int, str]:
        """Run Python in a container that sees the volume at /data; return exit code and output."""
        self._count += 1
        mounts = [{"target": "/data", "source": str(self.data / "ds"), "propagation": "HostToContainer"}]
        ended = self.world.run(
            "p", [sys.executable, "-c", code], container=f"app-{self._count}", mounts=mounts, **order
        )
        return ended.exit_code, ended.stdout + ended.stderr

    def counters(self, name: str) -> dict[str, Any]:
        """Ask the sidecar for its counters, as a node agent does."""
        read, write = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            self.world.client.call(
                "container.exec",
                pod="p",
                container=name,
                argv=[sys.executable, "-m", "headrace.fuse.counters"],
                fds=[null, write, null],
            )
        finally:
            os.close(write)
            os.close(null)
        with open(read) as file:
            said = file.read()
        found: dict[str, Any] = json.loads(said) if said else {}
        return found

    def stop(self, name: str) -> dict[str, Any]:
        """End a container with SIGTERM; return its journal entry."""
        after = self.world.client.call("hello")["journal_seq"]
        self.world.client.call("container.signal", pod="p", container=name, signal=15)
        with contextlib.closing(self.world.follow(after)) as follower:
            return next(
                event
                for event in follower.events(20)
                if event["type"] == "container-exited" and event["container"] == name
            )

    def logs(self) -> str:
        """Return the end of what all containers wrote."""
        texts = []
        for path in sorted(Path(self.world.directory, "logs").glob("*.log")):
            texts += [f"--- {path.name}\n", *(line for _, line in read_log(str(path))[-15:])]
        return "".join(texts)


class ObjectStore:
    """`rclone serve s3` on loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.access_key, self.secret_key = secrets.token_hex(8), secrets.token_hex(16)
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        (directory / "bucket").mkdir(parents=True)
        command = [str(BIN / "rclone"), "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{self.port}"]
        keys = ["--auth-key", f"{self.access_key},{self.secret_key}"]
        self._process = subprocess.Popen([*command, *keys, str(directory)], stderr=subprocess.DEVNULL)
        wait_until(lambda: _answers(self.port), "the object store listens")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@contextlib.contextmanager
def object_store(directory: Path) -> Iterator[ObjectStore]:
    """Serve the buckets beneath `directory`; there is one, `bucket`."""
    store = ObjectStore(directory)
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def metadata_server(directory: Path) -> Iterator[str]:
    """Run etcd on loopback; yield the address of a JuiceFS volume's metadata in it."""
    client, peer = _free_port(), _free_port()
    urls = {
        "--listen-client-urls": f"http://127.0.0.1:{client}",
        "--advertise-client-urls": f"http://127.0.0.1:{client}",
        "--listen-peer-urls": f"http://127.0.0.1:{peer}",
        "--initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "--initial-cluster": f"default=http://127.0.0.1:{peer}",
        "--data-dir": str(directory),
        "--log-level": "error",
    }
    words = [word for pair in urls.items() for word in pair]
    process = subprocess.Popen([str(BIN / "etcd"), *words], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(client), "the metadata server listens")
        yield f"etcd://127.0.0.1:{client}/vol"
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def format_juicefs(meta: str, *flags: str, name: str = "vol") -> None:
    """Make a JuiceFS volume."""
    command = [str(BIN / "juicefs"), "--no-agent", "format", "--no-update", *flags, meta, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
