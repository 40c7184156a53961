"""Runs an ASGI application, inside our own task group, and says when it listens: with TLS, and on loopback unless told."""

from __future__ import annotations

import errno
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn

from headrace.errors import Conflict

Scope = Any
App = Callable[[Any, Any, Any], Awaitable[None]]


def bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket; raises Conflict when the port is taken. An empty host is every address there is."""
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_dualstack_ipv6()) else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(256)  # SO_REUSEADDR lets two bind the same port, as long as neither listens
    except OSError as error:
        listener.close()
        hint = (
            "Free it, or choose another: headrace up --port" if host == "127.0.0.1" else "Free it, or choose another."
        )
        raise Conflict(f"Port {port} cannot be used: {error.strerror}.", hint=hint) from error
    return listener


def bind_for(port: int, host: str) -> socket.socket:
    """Return a socket that listens where others find this machine at `host`.

    That is at this address only, or at all addresses where it is another machine's, such as a router's that leads here.
    """
    try:
        return bind(port, host)
    except Conflict as error:
        if getattr(error.__cause__, "errno", None) != errno.EADDRNOTAVAIL:
            raise
        return bind(port, "")


class Server(uvicorn.Server):
    """A server that leaves signals to its process and tells when it is up.

    It has a certificate in files, or a context that somebody keeps good while it runs, or speaks plain HTTP.
    """

    def __init__(
        self,
        app: App,
        *,
        options: Mapping[str, Any],
        certificate: str | None = None,
        key: str | None = None,
        context: ssl.SSLContext | None = None,
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                ssl_context_factory=(lambda _config, _usual: context) if context is not None else None,
                log_level="warning",
                loop="none",
                **options,
            )
        )
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        # What lives until now lives for ever: without it a full collection costs tens of milliseconds (p99). Nothing
        # is collected first: that takes 70 ms of the start and finds 0.3 MiB.
        gc.freeze()
        self._on_started()

    def capture_signals(self) -> Any:
        """Leave signals alone: the process ends its task group, which ends the server."""
        import contextlib

        return contextlib.nullcontext()


def split(prefix: str, special: App, rest: App) -> App:
    """Return an application that gives paths below `prefix` to `special` and everything else to `rest`."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        chosen = special if scope["type"] == "http" and scope["path"].startswith(prefix) else rest
        await chosen(scope, receive, send)

    return app
