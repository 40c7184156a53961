"""A real registry on loopback (Debian's docker-registry), for as long as a test wants it. Needs no root."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.images import TestImage, push
from tests.kubernetes.cluster.programs import Missing, python_packages, registry_programs

PASSWORD = "open sesame"
_BCRYPTED = "$2b$04$YAtL7m8ikbZWCDnIMP3VGeSXienZxXtY97GTkj3hR35YlZ6idm7xO"  # the one way of hashing that it takes
_READY_WITHIN_S = 20.0


class Registry:
    """A registry that runs, or could.

    Args:
        users: only they may pull and push, by PASSWORD.
        auth: another way to say who may, as the registry's configuration has it.
        tls: certificate and key, and the certificate of who vouches for them.
    """

    def __init__(
        self,
        directory: Path,
        program: Path,
        users: Sequence[str] = (),
        *,
        auth: Mapping[str, Any] | None = None,
        tls: tuple[Path, Path, Path] | None = None,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._scheme = "https" if tls else "http"
        self._trusted = ssl.create_default_context(cafile=tls[2]) if tls else True
        if users:
            (directory / "htpasswd").write_text("".join(f"{user}:{_BCRYPTED}\n" for user in users))
            auth = {"htpasswd": {"realm": "test", "path": f"{directory}/htpasswd"}}
        self.auth = (users[0], PASSWORD) if users else None
        settings = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": f"{directory}/storage"}, "delete": {"enabled": True}},
            "http": {
                "addr": f"127.0.0.1:{self.port}",
                **({"tls": {"certificate": str(tls[0]), "key": str(tls[1])}} if tls else {}),
            },
            **({"auth": auth} if auth else {}),
        }
        (directory / "registry.yml").write_text(json.dumps(settings))  # which is YAML

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}"

    def push(self, repository: str, tag: str, *images: TestImage) -> str:
        return push(self.url, repository, tag, *images, auth=self.auth)

    def start(self) -> None:
        with as_real_user():
            self._start()

    def _start(self) -> None:
        settings = str(self.directory / "registry.yml")
        with (self.directory / "registry.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, "serve", settings], stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                httpx2.get(f"{self.url}/v2/", trust_env=False, verify=self._trusted)
            except httpx2.HTTPError:
                assert self._process.poll() is None, (self.directory / "registry.log").read_text()
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            with as_real_user():
                self._process.kill()
            self._process.wait()
            self._process = None

    def tamper(self, digest: str) -> None:
        """Change the last byte of a blob in the registry's storage."""
        text = digest.partition(":")[2]
        file = self.directory / "storage/docker/registry/v2/blobs/sha256" / text[:2] / text / "data"
        with as_real_user():
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@contextmanager
def as_real_user() -> Iterator[None]:
    """Be root again for a while, in a test whose effective user is the node's."""
    user, group = os.geteuid(), os.getegid()
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(user)


@contextmanager
def running_registry(directory: Path, users: Sequence[str] = ()) -> Iterator[Registry]:
    """Run a registry in `directory`; with `users`, only they (by PASSWORD) may pull and push."""
    registry = Registry(directory, programs() / "docker-registry", users)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(directory / "storage", ignore_errors=True)


def programs() -> Path:
    """Return where docker-registry and busybox are; skips loudly where they cannot be had, and fails in CI."""
    try:
        return registry_programs()
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(f"NO REGISTRY, IMAGES ARE NOT TESTED: {missing}")


def packages() -> list[Path]:
    """Return Debian's packages of a small Python, libc first; skips loudly where they cannot be had, and fails in CI."""
    try:
        return sorted(
            python_packages().glob("*.deb"), key=lambda path: not path.name.startswith(("base-files", "libc6"))
        )
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(f"NO PACKAGES, NO IMAGE OF MANY LAYERS IS TESTED: {missing}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
