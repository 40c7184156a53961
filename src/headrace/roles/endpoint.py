"""Serves a node's endpoint: TLS that asks for client certificates of an authority which may change, and the guard.

Whoever shows a certificate that the authority did not sign fails in the handshake; whoever shows none may have a token.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

from starlette.applications import Starlette

from headrace.clock import Clock
from headrace.cluster.access import AccessReviews, TokenReviews
from headrace.cluster.protocol import Cluster
from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.node.guard import CERTIFICATE, Authenticator, Authorizer, ClusterAuthenticator, ClusterAuthorizer, Guard
from headrace.roles.serving import Server
from headrace.roles.upgrading import UpgradingProtocol

ALLOWED_FOR_S, DENIED_FOR_S = 300.0, 30.0
TOKENS_FOR_S = 120.0
"""For how long the cluster's answers hold: kubelet's `authorization.webhook` and `authentication.webhook`."""


class EndpointTls:
    """What an endpoint shows, and whose certificates it takes. Both may change while it is served.

    While it has nothing to show every handshake fails.

    Args:
        authorities: PEM; nobody's certificate is taken without one.
    """

    def __init__(self, authorities: str = "") -> None:
        self._shown: tuple[Path, Path | None] | None = None
        self._authorities = authorities
        self.trust_changed: Callable[[], None] = lambda: None
        """Called when somebody who was trusted may be so no more."""
        self._current = _context(None, authorities)
        # Connections get their context when they begin, so that an authority that is gone is trusted no more: OpenSSL
        # forgets none. This is called for clients that name no server, too.
        self.context = _context(None, "")
        self.context.sni_callback = self._choose

    def show(self, certificate: Path, key: Path | None = None) -> None:
        """Show another certificate from now on, with its key in the same file or another.

        Raises `ssl.SSLError` or OSError when it cannot be used, and goes on with the last one.
        """
        self._current = _context((certificate, key), self._authorities)
        self._shown = certificate, key

    def trust(self, authorities: str) -> None:
        """Take certificates of these authorities (PEM) and no others from now on; raises as `show` does."""
        if authorities != self._authorities:
            self._current = _context(self._shown, authorities)
            self._authorities = authorities
            self.trust_changed()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _context(shown: tuple[Path, Path | None] | None, authorities: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if shown is not None:
        context.load_cert_chain(*shown)
    if authorities:
        context.load_verify_locations(cadata=authorities)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET  # a resumed session would carry its old certificate over
    context.num_tickets = 0
    return context


def delegated(cluster: Cluster, clock: Clock) -> tuple[Authenticator, Authorizer]:
    """Return who knows callers, and who decides what they may, by the cluster's own word."""
    tokens = TokenReviews(cluster, clock, remembered_for_s=TOKENS_FOR_S)
    access = AccessReviews(cluster, clock, allowed_for_s=ALLOWED_FOR_S, denied_for_s=DENIED_FOR_S)
    return ClusterAuthenticator(tokens), ClusterAuthorizer(access)


class NodeProtocol(UpgradingProtocol):
    """Tells the application who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.app_state = {**self.app_state, CERTIFICATE: shown or b""}
        super().connection_made(transport)


class Endpoint:
    """One node's endpoint. `serve` is what an `Agent` is given.

    Args:
        node: the Node's name.
        listener: a socket that listens.
    """

    def __init__(
        self,
        node: str,
        listener: socket,
        tls: EndpointTls,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        self._node = node
        self._listener = listener
        self._tls = tls
        self._authenticator, self._authorizer = authenticator, authorizer
        self._on_started = on_started

    async def serve(self, app: Starlette) -> None:
        """Serve until cancelled."""
        guarded = Guard(app, node=self._node, authenticator=self._authenticator, authorizer=self._authorizer)
        options: dict[str, Any] = {**UVICORN_OPTIONS, "http": NodeProtocol}
        server = Server(guarded, context=self._tls.context, options=options, on_started=self._on_started)

        def end_idle_connections() -> None:
            for connection in list(server.server_state.connections):
                if isinstance(connection, NodeProtocol) and not connection.is_taken:
                    connection.shutdown()

        self._tls.trust_changed = end_idle_connections
        await server.serve(sockets=[self._listener])
