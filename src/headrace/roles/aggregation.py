"""Serves the computed reads to the API server, and code archives to workers, from one controller process.

Two ports, because they trust differently. The first demands the API server's own client certificate and then believes
whom it speaks for. At the second every request carries its own credential, a token for one archive.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from socket import socket
from typing import Any

import anyio
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.admission.certificates import common_name
from headrace.api.aggregated import aggregated_app
from headrace.api.front_proxy import CONFIGURATION, FrontProxy, front_proxy
from headrace.api.reads import Reads
from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import EngineFailed, Unavailable
from headrace.roles.certificates import ServedCertificate
from headrace.roles.serving import Server
from headrace.roles.web_options import API_OPTIONS
from headrace.spec.kind import Doc
from headrace.spec.kinds import CONFIG_MAP
from headrace.telemetry import logger

SERVING = "reads.serving"
STRANGER = "reads.stranger_refused"
UNKNOWN = "reads.front_proxy_unknown"


class FrontProxyFollower:
    """Knows who may speak for others, from the cluster's own ConfigMap."""

    def __init__(self, cluster: Cluster, context: ssl.SSLContext, say: Callable[[str], None]) -> None:
        self._context = context
        self._say = say
        self._known: FrontProxy | None = None
        self.there = anyio.Event()
        where = Scope(namespace=CONFIGURATION.namespace, fields=f"metadata.name={CONFIGURATION.name}")
        self.cache = Cache(cluster, {CONFIG_MAP: where})
        self.cache.subscribe(CONFIG_MAP, self._changed)
        say(f"ConfigMap {CONFIGURATION} has not been read yet.")

    def current(self) -> FrontProxy:
        """Return the latest that is known; raises Unavailable before there is any."""
        if self._known is None:
            raise Unavailable("Nobody may ask yet.", hint="Try again in a moment.")
        return self._known

    def _changed(self, _old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        if new is None:
            return
        try:
            found = front_proxy(new.raw)
            if self._known is None or found.authority != self._known.authority:
                # An authority that is no longer named stays trusted by this process; names are looked at each time.
                self._context.load_verify_locations(cadata=found.authority)
        except (EngineFailed, ssl.SSLError) as error:
            logger().warning(UNKNOWN, error=str(error))
            self._say(str(error))
            return
        self._known = found
        self._say("")
        self.there.set()


def demanding_context() -> ssl.SSLContext:
    """Return the context of a server whose clients must show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def named_protocol(proxy: Callable[[], FrontProxy]) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol, which takes connections only of clients with one of the front proxy's names."""

    class Named(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            names = proxy().names
            if names and common_name(shown) not in names:
                logger().warning(STRANGER, name=common_name(shown))
                transport.abort()
                return
            super().connection_made(transport)

    return Named


class ReadsServer:
    """Both servers of one process. `follow` runs what they know; `serve` runs them, once it is known."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        clock: Clock,
        *,
        say_certificate: Callable[[str], None],
        say_proxy: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._demanding, self._open = demanding_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate = ServedCertificate(cluster, namespace, say_certificate, (self._demanding, self._open))
        self._proxy = FrontProxyFollower(cluster, self._demanding, say_proxy)

    async def follow(self) -> None:
        """Follow the certificate and the front proxy until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.certificate.cache.run)
            tasks.start_soon(self._proxy.cache.run)

    async def serve(self, reads: Reads, listener: socket, code_listener: socket) -> None:
        """Serve until cancelled, as soon as there is a certificate."""
        await self.certificate.there.wait()
        app = aggregated_app(reads, proxy=self._proxy.current, cluster=self._cluster, clock=self._clock)
        options = {**API_OPTIONS, "http": named_protocol(self._proxy.current)}
        async with anyio.create_task_group() as tasks:
            code = Server(Starlette(routes=reads.public_routes()), context=self._open, options=API_OPTIONS)
            tasks.start_soon(functools.partial(code.serve, sockets=[code_listener]))
            await self._proxy.there.wait()
            logger().info(SERVING, port=listener.getsockname()[1])
            await Server(app, context=self._demanding, options=options).serve(sockets=[listener])
