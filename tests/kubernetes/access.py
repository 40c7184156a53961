"""How tests reach a real API server: what a kubeconfig says, for clients that are not ours."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
from lightkube.config.kubeconfig import KubeConfig

from headrace.cluster.remote.connection import BearerAuth, from_kubeconfig
from headrace.spec.kind import Json

DEADLINE_S = 20.0


class Access:
    """An API server and the administrator's credential there.

    Has what the façade's server in `tests/contract/conftest.py` has, so that the same cases take either.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        connection = from_kubeconfig(kubeconfig)
        self.url = connection.server
        self.tls: ssl.SSLContext = connection.tls
        """With the administrator's certificate, if that is the credential."""
        self.trust: ssl.SSLContext = _trust(kubeconfig)
        self.token = _token(connection.auth) if isinstance(connection.auth, BearerAuth) else ""

    @contextmanager
    def client(self, token: str | None = None) -> Iterator[httpx2.Client]:
        """Yield an HTTP client with the administrator's credential, or another token, or none (an empty text)."""
        sent = self.token if token is None else token
        headers = {"authorization": f"Bearer {sent}"} if sent else {}
        tls = self.tls if token is None else self.trust
        with httpx2.Client(base_url=self.url, verify=tls, headers=headers, trust_env=False, timeout=DEADLINE_S) as made:
            yield made

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        """Send JSON and return the JSON of the answer; fails on an error."""
        content = None if body is None else msgspec.json.encode(body)
        with self.client() as client:
            answer = client.request(method, path, content=content, headers={"content-type": content_type})
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found


def _trust(kubeconfig: Path) -> ssl.SSLContext:
    """Return what is needed to know the server, and no credential."""
    config = KubeConfig.from_file(kubeconfig).get()
    assert config is not None  # from_kubeconfig has read it
    authority = config.cluster.certificate_auth_data
    file = config.cluster.certificate_auth
    return ssl.create_default_context(
        cadata=base64.b64decode(authority).decode() if authority else None,
        cafile=config.abs_file(file) if file and not authority else None,
    )


def _token(auth: BearerAuth) -> str:
    """Return a token; asked for on a thread, because a test's own event loop may run on this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(anyio.run, auth._renew, "").result()
