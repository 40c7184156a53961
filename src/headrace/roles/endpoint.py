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

from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.node.guard import CERTIFICATE, Authenticator, Authorizer, Guard
from headrace.roles.serving import Server
from headrace.roles.upgrading import UpgradingProtocol


class EndpointTls:
    """What an endpoint shows, and whose certificates it takes. Either may change while it is served."""

    def __init__(self, certificate: Path, key: Path, authorities: str) -> None:
        self._files = (certificate, key)
        self._authorities = authorities
        self.changed: Callable[[], None] = lambda: None
        """Called when somebody who was trusted may be so no more."""
        self._current = self._make()
        # Connections get their context when they begin, so that an authority that is gone is trusted no more; OpenSSL
        # would never forget one. It is called for clients that name no server, too.
        self.context = self._make()
        self.context.sni_callback = self._choose

    def show(self, certificate: Path, key: Path) -> None:
        """Show another certificate from now on. Raises `ssl.SSLError` for what is none, and changes nothing."""
        self._change((certificate, key), self._authorities)

    def trust(self, authorities: str) -> None:
        """Take certificates of these authorities (PEM) from now on. Raises `ssl.SSLError` as `show` does."""
        if authorities != self._authorities:
            self._change(self._files, authorities)
            self.changed()

    def _change(self, files: tuple[Path, Path], authorities: str) -> None:
        before = self._files, self._authorities
        self._files, self._authorities = files, authorities
        try:
            self._current = self._make()
        except (ssl.SSLError, OSError):
            self._files, self._authorities = before
            raise

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        if self._authorities:
            context.load_verify_locations(cadata=self._authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.options |= ssl.OP_NO_TICKET  # a resumed session would carry its old certificate over
        context.num_tickets = 0
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


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

        self._tls.changed = end_idle_connections
        await server.serve(sockets=[self._listener])
