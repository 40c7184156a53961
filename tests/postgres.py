"""A real PostgreSQL server on loopback for tests: Debian's, in a directory and with a password of its own, always stopped."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.interruption import LONGEST_RUN_S
from tests.storage import free_ports

_PROGRAMS = Path("/usr/lib/postgresql")
_CLUSTER_SETTINGS = Path("/etc/postgresql-common/createcluster.conf")
_READY_WITHIN_S = 30.0
"""The server ends by itself then, even where the tests were killed."""


@dataclass(frozen=True)
class Postgres:
    """A running server; `url` is that of its administrator, without a database."""

    url: str

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give the URL of a new database."""
        name = f"t{secrets.token_hex(6)}"
        self._administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{self.url}/{name}"
        finally:
            self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server for as long as the context lasts. Without one on this machine and no right to install it, skip."""
    programs = _programs()
    user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None  # it refuses to run as root
    (port,), password = free_ports(1), secrets.token_hex(16)
    directory = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    try:
        (directory / "password").write_text(password)
        if user is not None:
            for path in (directory, directory / "password"):
                shutil.chown(path, user, user)
        data = directory / "data"
        made = ("-D", str(data), "-U", "headrace", "-A", "scram-sha-256", "--pwfile", str(directory / "password"))
        _run([str(programs / "initdb"), *made, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], user)
        with _served(programs, data, port, user, directory / "log"):
            yield Postgres(f"postgresql://headrace:{password}@127.0.0.1:{port}")
    finally:
        shutil.rmtree(directory)


@contextmanager
def _served(programs: Path, data: Path, port: int, user: str | None, log: Path) -> Iterator[None]:
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "fsync": "off"}
    words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    bounded = ["timeout", "--signal=INT", "--kill-after=5", str(LONGEST_RUN_S)]
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [*bounded, str(programs / "postgres"), "-D", str(data), *words],
            user=user,
            group=user,
            extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
        )
    try:
        end = time.monotonic() + _READY_WITHIN_S
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready).returncode != 0:
            assert server.poll() is None, f"PostgreSQL ended with {server.returncode}:\n{log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"PostgreSQL does not answer:\n{log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield
    finally:
        server.terminate()  # a smart shutdown would wait for clients; `timeout` passes on INT, a fast one
        server.wait(20)


def _programs() -> Path:
    """Return the directory of the newest PostgreSQL here, installed first where that may be."""
    if not (found := _installed()):
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            why = "NO POSTGRESQL, THE LEDGER IS NOT TESTED ON IT: install the package postgresql"
            if os.environ.get("CI"):
                pytest.fail(why)
            pytest.skip(why)
        _install()
        found = _installed()
    return found[-1]


def _installed() -> list[Path]:
    return sorted((path.parent for path in _PROGRAMS.glob("*/bin/initdb")), key=lambda path: int(path.parent.name))


def _install() -> None:
    """Install Debian's package, which must not start a server of its own."""
    if not _CLUSTER_SETTINGS.exists():
        _CLUSTER_SETTINGS.parent.mkdir(parents=True, exist_ok=True)
        _CLUSTER_SETTINGS.write_text("create_main_cluster = false\n")
    _run(["apt-get", "update", "-qq"], None, 300)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"], None, 600)


def _run(argv: Sequence[str], user: str | None, timeout_s: float = 60) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        argv,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd="/",
    )
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
