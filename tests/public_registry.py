"""A registry as the public ones are: docker-registry over https, and a token server that says who may pull what.

Source: distribution's "Token Authentication Specification" and "Docker Registry v2 authentication via central service".
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from joserfc import jwt
from joserfc.jwk import ECKey
from tests.images import TestImage
from tests.registry import PASSWORD, Registry, programs, running_registry

from headrace.certificates import KeyPair, make_authority, names_of, sign, subject_of

_SERVICE, _ISSUER = "registry.test", "tokens.test"
_DAY = dt.timedelta(days=1)
PUBLIC = "library/"
"""Where everybody's repositories begin; the others are their user's."""


class TokenServer:
    """Gives anybody tokens for what is public, and its user for what begins with his name."""

    def __init__(self, pair: KeyPair, tls: ssl.SSLContext) -> None:
        self.asked: list[tuple[str, str]] = []
        """User and scope of each request."""
        self._pair = pair
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                status, body = server.answer(self.headers.get("Authorization", ""), query)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._http.server_port}/token"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, authorization: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Return status and body, as Docker's does: who is known and may nothing gets a token for nothing."""
        user = ""
        if authorization:
            user, _, word = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            if word != PASSWORD:
                return 401, {"details": "incorrect username or password"}
        (scope,) = query["scope"]
        assert query["service"] == [_SERVICE]
        self.asked.append((user, scope))
        _, repository, _ = scope.split(":")
        allowed = repository.startswith(PUBLIC) or (bool(user) and repository.startswith(f"{user}/"))
        return 200, {"token": self._token(repository if allowed else None), "expires_in": 300}

    def _token(self, repository: str | None) -> str:
        now = int(dt.datetime.now(dt.UTC).timestamp())
        access = [{"type": "repository", "name": repository, "actions": ["pull"]}] if repository else []
        claims = {"iss": _ISSUER, "aud": _SERVICE, "nbf": now - 5, "iat": now, "exp": now + 300, "access": access}
        chain = [base64.b64encode(self._pair.certificate.public_bytes(Encoding.DER)).decode()]
        return jwt.encode({"alg": "ES256", "x5c": chain}, claims, ECKey.import_key(self._pair.key_pem.decode()))


@contextmanager
def public_registry(images: Mapping[str, TestImage]) -> Iterator[tuple[Registry, TokenServer, Path]]:
    """Serve images, each as `1` of its repository; yield the server, its tokens' giver and the file of who vouches for both.

    Anybody on the machine may read that file.
    """
    with tempfile.TemporaryDirectory() as place, running_registry(Path(place)) as plain:
        directory = plain.directory
        directory.chmod(0o755)
        for repository, image in images.items():
            plain.push(repository, "1", image)
        plain.stop()
        now = dt.datetime.now(dt.UTC)
        authority = make_authority("registries", now, _DAY)
        pair = sign(
            authority, subject_of(_SERVICE), ExtendedKeyUsageOID.SERVER_AUTH, names_of(["127.0.0.1"]), now, _DAY
        )
        trusted, certificate, key = (directory / name for name in ("authority.pem", "server.pem", "server.key"))
        trusted.write_bytes(authority.certificate_pem)
        certificate.write_bytes(pair.certificate_pem)
        key.write_bytes(pair.key_pem)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
        tokens = TokenServer(pair, tls)
        token = {"realm": tokens.url, "service": _SERVICE, "issuer": _ISSUER, "rootcertbundle": str(trusted)}
        program = programs() / "docker-registry"
        served = Registry(directory, program, auth={"token": token}, tls=(certificate, key, trusted))
        try:
            served.start()
            yield served, tokens, trusted
        finally:
            served.stop()
            tokens.close()
