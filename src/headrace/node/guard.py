"""Who may call a node's endpoint: everybody shows a certificate or a token, and may what the cluster's roles say.

As on a kubelet there is no path for anybody else, health included.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from headrace.cluster.access import AccessReviews, Caller, TokenReviews
from headrace.errors import Denied, HeadraceError
from headrace.node.attributes import attributes
from headrace.node.callers import certificate_caller
from headrace.spec.kind import Json

CERTIFICATE = "client_certificate"
"""Where the scope's `state` has the client's certificate (DER), which TLS has checked; absent or empty for none."""


class Authenticator(Protocol):
    """Finds out who calls."""

    async def caller(self, certificate: bytes, token: str) -> Caller | None:
        """Return who shows a certificate (DER, checked; may be empty) or a token (may be empty); None for nobody."""
        ...


class Authorizer(Protocol):
    """Decides what callers may."""

    async def refusal(self, who: Caller, asked: list[Json]) -> str:
        """Return why not, empty when one of the things asked (`attributes.attributes`) is allowed."""
        ...


class Guard:
    """ASGI middleware: answers 401 and 403 with a sentence, and passes everything else on.

    Args:
        node: the Node's name, which rights can be given for.
    """

    def __init__(self, app: ASGIApp, *, node: str, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._app = app
        self._node = node
        self._authenticator = authenticator
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._check(scope)
        except HeadraceError as error:
            status = 401 if error.code == "Unauthorized" else error.http_status
            response = PlainTextResponse(str(error), status)
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(response)
            else:
                await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        method, path = scope.get("method", "GET"), scope["path"]
        certificate: bytes = scope.get("state", {}).get(CERTIFICATE) or b""
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        who = await self._authenticator.caller(certificate, token.strip() if kind.lower() == "bearer" else "")
        if who is None:
            raise Denied(
                f"Node {self._node} does not know who asks for {path}.",
                hint="Show a client certificate of the cluster, or a token that it knows.",
                code="Unauthorized",
            )
        asked = attributes(self._node, method, path)
        why_not = await self._authorizer.refusal(who, asked)
        if why_not:
            resources = " or ".join(f"nodes/{each['resourceAttributes']['subresource']}" for each in asked)
            verb = asked[0]["resourceAttributes"]["verb"] or method
            raise Denied(
                f"{who.name} may not {verb} {resources} of node {self._node}: {why_not}.",
                hint="Ask for a role that allows it.",
            )


class ClusterAuthenticator:
    """Knows those whom the cluster knows: by certificates of its client authority, and tokens it is asked about."""

    def __init__(self, tokens: TokenReviews) -> None:
        self._tokens = tokens

    async def caller(self, certificate: bytes, token: str) -> Caller | None:
        if certificate:
            return certificate_caller(certificate)
        return await self._tokens.caller(token) if token else None


class ClusterAuthorizer:
    """Allows what the cluster allows."""

    def __init__(self, access: AccessReviews) -> None:
        self._access = access

    async def refusal(self, who: Caller, asked: list[Json]) -> str:
        why_not = ""
        for each in asked:
            why_not = await self._access.refusal(who, each)
            if not why_not:
                return ""
        return why_not


class CertificateAuthenticator:
    """Knows those who show a certificate."""

    async def caller(self, certificate: bytes, token: str) -> Caller | None:  # noqa: ARG002 the protocol's signature
        return certificate_caller(certificate) if certificate else None


class UserAuthorizer:
    """Allows some users everything, and others nothing."""

    def __init__(self, users: Collection[str]) -> None:
        self._users = frozenset(users)

    async def refusal(self, who: Caller, asked: list[Json]) -> str:  # noqa: ARG002 the protocol's signature
        return "" if who.name in self._users else f"only {', '.join(sorted(self._users))} may"
