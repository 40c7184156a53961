"""The HTTPS endpoint of a node that has joined a cluster: what it shows, and whom it lets in.

Its certificate is signed by the cluster (`kubernetes.io/kubelet-serving`), when somebody has approved it; until then
every handshake fails. Who calls must show a certificate of the cluster's client authority, as the API server does
(kubelet: `--client-ca-file`).
"""

from __future__ import annotations

import functools
import socket
import ssl
from typing import Any

import anyio
from starlette.applications import Starlette

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster, Scope
from headrace.cluster.signing import kubelet_serving
from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.node import certificates
from headrace.node.certificates import KeptCertificate
from headrace.roles.joined_file import SERVING_CERTIFICATE, JoinedNode
from headrace.roles.said import Said
from headrace.roles.serving import Server
from headrace.settings import Home
from headrace.spec.kind import Doc
from headrace.spec.kinds import CONFIG_MAP

AUTHENTICATION_NAMESPACE, AUTHENTICATION = "kube-system", "extension-apiserver-authentication"
_CLIENT_AUTHORITY = "client-ca-file"
_APPROVER = "Headrace's controller (headrace install)"


class Endpoint:
    """Serves the endpoint of one node on `listener`."""

    def __init__(
        self, node: JoinedNode, home: Home, cluster: Cluster, clock: Clock, listener: socket.socket, said: Said
    ) -> None:
        self._file = home.identity / SERVING_CERTIFICATE
        self._listener = listener
        self._said = said
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._certificate = KeptCertificate(
            self._file,
            cluster,
            kubelet_serving(node.name, [node.address], lasts_s=node.certificate_s, approver=_APPROVER),
            clock,
            say=functools.partial(said.say, "endpoint"),
            renewed=self._show,
        )
        where = Scope(namespace=AUTHENTICATION_NAMESPACE, fields=f"metadata.name={AUTHENTICATION}")
        self._authorities = Cache(cluster, {CONFIG_MAP: where})
        self._authorities.subscribe(CONFIG_MAP, self._trust)

    async def serve(self, app: Starlette) -> None:
        """Serve until cancelled."""
        if certificates.read(self._file) is not None:
            await self._show()
        server = Server(app, context=self._context, options=UVICORN_OPTIONS)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._certificate.run)
            tasks.start_soon(self._authorities.run)
            await server.serve(sockets=[self._listener])

    async def _show(self) -> None:
        """Show the certificate that is in the file by now to whoever connects from now on."""
        self._context.load_cert_chain(self._file)

    def _trust(self, _old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        authority = ((new.raw.get("data") or {}) if new is not None else {}).get(_CLIENT_AUTHORITY)
        if authority:
            self._context.load_verify_locations(cadata=authority)
            self._said.say("callers", "")
        else:
            self._said.say(
                "callers",
                f"Nobody can call this node's endpoint (logs, exec): ConfigMap {AUTHENTICATION_NAMESPACE}/"
                f"{AUTHENTICATION} names no {_CLIENT_AUTHORITY}, so the API server has no client authority.",
            )
