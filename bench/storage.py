"""A real JuiceFS volume on loopback for benchmarks: etcd for names, an S3 server for blocks, a few files in it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(sys.executable).parent
_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_PATIENCE_S = 30.0
_KEYS = ("bench-key", "bench-secret")


class Volume(NamedTuple):
    """A formatted volume; `meta` is what a client needs to mount it."""

    name: str
    meta: str

    def objects(self) -> list[dict[str, Any]]:
        """Return what a storage engineer applies: Secret, profile, volume; and an unlabelled claim `bench`."""
        csi = {
            "driver": "fuse.headrace.io",
            "volumeHandle": self.name,
            "volumeAttributes": {"profile": "juicefs", "mountPoint": f"juicefs://{self.name}"},
            "nodePublishSecretRef": {"name": "juicefs", "namespace": "default"},
        }
        size = {"accessModes": ["ReadOnlyMany"]}
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "juicefs"},
                "stringData": {"metaurl": self.meta},
            },
            {
                "apiVersion": "data.fluid.io/v1alpha1",
                "kind": "ThinRuntimeProfile",
                "metadata": {"name": "juicefs"},
                "spec": {
                    "fileSystemType": "juicefs",
                    "fuse": {"image": "host", "command": ["python", "-m", "headrace.fuse.clients.juicefs"]},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": "bench"},
                "spec": {**size, "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain", "csi": csi},
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "bench"},
                "spec": {
                    **size,
                    "storageClassName": "",
                    "volumeName": "bench",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        ]


@contextmanager
def volume(directory: Path) -> Iterator[Volume]:
    """Serve a volume with a hundred small files for as long as the context lasts."""
    names, peers, blocks = (_free_port() for _ in range(3))
    client, peer = f"http://127.0.0.1:{names}", f"http://127.0.0.1:{peers}"
    (directory / "blocks" / "bench").mkdir(parents=True)
    (directory / "files").mkdir()
    for number in range(100):
        (directory / "files" / f"{number:03}.txt").write_text(f"{number}\n" * 100)
    etcd = ["etcd", "--data-dir", str(directory / "etcd"), "--unsafe-no-fsync", "--log-level", "error"]
    etcd += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    etcd += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    s3 = ["rclone", "serve", "s3", str(directory / "blocks"), "--config", "/dev/null"]
    s3 += ["--addr", f"127.0.0.1:{blocks}", "--auth-key", ",".join(_KEYS)]
    servers = [subprocess.Popen([str(BIN / argv[0]), *argv[1:]], **_QUIET) for argv in (etcd, s3)]
    try:
        for port in (names, blocks):
            _wait_for(port)
        meta = f"etcd://127.0.0.1:{names}/bench"
        env = {**os.environ, "ACCESS_KEY": _KEYS[0], "SECRET_KEY": _KEYS[1], "META": meta}
        where = ["--storage", "s3", "--bucket", f"http://127.0.0.1:{blocks}/bench", "--trash-days", "0"]
        _run(["juicefs", "--no-agent", "format", *where, meta, "bench"], env)
        _run(["juicefs", "--no-agent", "sync", f"{directory}/files/", "jfs://META/"], env)
        yield Volume("bench", meta)
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def bare_mount_s(meta: str, directory: Path) -> float | None:
    """Return seconds from starting `juicefs mount` until the mount is listed; None where this user may not mount."""
    place = directory / f"mount-{time.monotonic_ns()}"
    place.mkdir()
    argv = [str(BIN / "juicefs"), "--no-agent", "mount", "--no-usage-report", "--read-only", meta, str(place)]
    began = time.monotonic()
    client = subprocess.Popen(argv, **_QUIET)
    try:
        while time.monotonic() - began < _PATIENCE_S and client.poll() is None:
            if os.path.ismount(place) and os.listdir(place):
                return time.monotonic() - began
            time.sleep(0.002)
        return None
    finally:
        client.terminate()
        client.wait()
        subprocess.run(["umount", "-l", str(place)], check=False, **_QUIET)
        shutil.rmtree(place, ignore_errors=True)


def _run(argv: list[str], env: dict[str, str]) -> None:
    subprocess.run([str(BIN / argv[0]), *argv[1:]], env=env, check=True, timeout=60, **_QUIET)


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _wait_for(port: int) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"Nothing listens on port {port} within {_PATIENCE_S:g} s.")
