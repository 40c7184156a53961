"""Real storage servers on loopback for tests: free ports, bounded in time, always stopped.

Everything runs from the environment's own wheels. What a volume or bucket holds is known beforehand, with one SHA-256
over all of it, which `READ` prints from wherever a job reads the same files.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interruption import LONGEST_RUN_S

BIN = Path(sysconfig.get_path("scripts"))
_READY_WITHIN_S = 30.0
_COMMAND_WITHIN_S = 60.0

READ = """
import hashlib, pathlib, sys
place = pathlib.Path(sys.argv[1])
files = sorted(path for path in place.rglob("*") if path.is_file())
digest = hashlib.sha256()
for path in files:
    content = path.read_bytes()
    digest.update(f"{path.relative_to(place)}\\0{len(content)}\\0".encode() + content)
print("files", len(files), "sha256", digest.hexdigest(), flush=True)
"""
"""A program: prints how many files are beneath its argument, and the SHA-256 over their names, sizes and contents."""


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return what `READ` prints for these files."""
    found = hashlib.sha256()
    for name in sorted(files, key=Path):
        found.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return f"files {len(files)} sha256 {found.hexdigest()}"


def small_files(count: int = 300) -> dict[str, bytes]:
    """Return files of up to 3 kB in some directories, the same at every call."""
    chance = random.Random("small files")
    return {f"{i % 7}/{i:04}.bin": chance.randbytes(chance.randrange(3000)) for i in range(count)}


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket of an S3 server, and the directory in which the server keeps its objects as files."""

    endpoint: str
    access_key: str
    secret_key: str
    name: str
    directory: Path

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def put(self, files: Mapping[str, bytes]) -> None:
        """Store objects, without a word to the server."""
        _write(self.directory, files)


@dataclass(frozen=True, kw_only=True)
class JuiceFsVolume:
    """A JuiceFS volume whose names are in etcd and whose blocks are in a bucket.

    Args:
        metaurl: of the metadata engine; no password is needed.
        said: what `READ` prints of its directory /data, which was filled.
        blocks: where file contents are.
    """

    name: str
    metaurl: str
    said: str
    blocks: Bucket


@contextmanager
def s3_bucket(directory: Path, name: str = "bucket") -> Iterator[Bucket]:
    """Serve an empty bucket with `rclone serve s3`, with keys of its own."""
    buckets = directory / "s3"
    (buckets / name).mkdir(parents=True)
    (port,) = free_ports(1)
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    argv = ("rclone", "serve", "s3", str(buckets), "--config", "/dev/null", "--addr", f"127.0.0.1:{port}")
    with _served((*argv, "--auth-key", f"{access_key},{secret_key}"), port, directory / "s3.log"):
        yield Bucket(
            endpoint=f"http://127.0.0.1:{port}",
            access_key=access_key,
            secret_key=secret_key,
            name=name,
            directory=buckets / name,
        )


@dataclass(frozen=True, kw_only=True)
class Share:
    """A directory that a WebDAV server gives to whoever knows the password."""

    url: str
    user: str
    password: str


@contextmanager
def webdav_share(directory: Path, files: Mapping[str, bytes], host: str = "127.0.0.1") -> Iterator[Share]:
    """Serve `files` with `rclone serve webdav`, at an address of this machine."""
    served = directory / "share"
    _write(served, files)
    (port,) = free_ports(1)
    share = Share(url=f"http://{host}:{port}", user="starfs", password=secrets.token_hex(12))
    argv = ("rclone", "serve", "webdav", str(served), "--config", "/dev/null", "--addr", f"{host}:{port}")
    login = {"RCLONE_USER": share.user, "RCLONE_PASS": share.password}
    with _served(argv, port, directory / "webdav.log", host=host, env=login):
        yield share


@contextmanager
def juicefs_volume(directory: Path, files: Mapping[str, bytes] | None = None) -> Iterator[JuiceFsVolume]:
    """Serve a JuiceFS volume with `files` in its directory /data, some hundreds of small ones by default."""
    files = small_files() if files is None else files
    source = directory / "source"
    _write(source, files)
    with ExitStack() as stack:
        blocks = stack.enter_context(s3_bucket(directory, "blocks"))
        metaurl = f"etcd://{stack.enter_context(_etcd(directory))}/volume"
        keys = {"ACCESS_KEY": blocks.access_key, "SECRET_KEY": blocks.secret_key}
        where = ("--storage", "s3", "--bucket", f"{blocks.endpoint}/{blocks.name}", "--trash-days", "0")
        _run("juicefs", "--no-agent", "format", *where, metaurl, "volume", env=keys)
        _run(
            "juicefs",
            "--no-agent",
            "sync",
            "--threads",
            "50",
            f"{source}/",
            "jfs://VOLUME/data/",
            env={"VOLUME": metaurl},
        )
        yield JuiceFsVolume(name="volume", metaurl=metaurl, said=digest_of(files), blocks=blocks)


@contextmanager
def _etcd(directory: Path) -> Iterator[str]:
    """Serve an etcd of one member; yields its address."""
    port, peer_port = free_ports(2)
    url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    argv = ("etcd", "--data-dir", str(directory / "etcd"), "--unsafe-no-fsync", "--log-level", "error")
    listen = ("--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer_url)
    member = ("--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}")
    with _served((*argv, *listen, *member), port, directory / "etcd.log"):
        limits = ("--dial-timeout", "10s", "--command-timeout", "10s")
        _run("etcdctl", "--endpoints", f"127.0.0.1:{port}", *limits, "endpoint", "health")
        yield f"127.0.0.1:{port}"


def free_ports(count: int) -> list[int]:
    """Return different ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        trials = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for trial in trials:
            trial.bind(("127.0.0.1", 0))
        return [int(trial.getsockname()[1]) for trial in trials]


@contextmanager
def _served(
    argv: Sequence[str], port: int, log: Path, *, host: str = "127.0.0.1", env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server for as long as the context lasts; it listens when the context begins."""
    bounded = ("timeout", "--kill-after=5", str(LONGEST_RUN_S), str(BIN / argv[0]), *argv[1:])
    with open(log, "wb") as out:
        server = subprocess.Popen(
            bounded, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
    try:
        end = time.monotonic() + _READY_WITHIN_S
        while not _listens(host, port):
            assert server.poll() is None, f"{argv[0]} ended with {server.returncode}:\n{log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"{argv[0]} does not listen:\n{log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield
    finally:
        server.terminate()  # `timeout` passes it on, and kills what does not heed it
        server.wait(10)


def _listens(host: str, port: int) -> bool:
    with closing(socket.socket()) as trial:
        return trial.connect_ex((host, port)) == 0


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run(*argv: str, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=_COMMAND_WITHIN_S,
    )
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
