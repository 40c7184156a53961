"""The HTTPS endpoint of a node that has joined a cluster: its certificate, whom it trusts, and who may call it.

The certificate is signed by the cluster (`kubernetes.io/kubelet-serving`) once somebody has approved it; until then
connections are refused. Callers show a certificate of the cluster's client authority, as ConfigMap
`extension-apiserver-authentication` has it (kubelet: `--client-ca-file`), or a token, and may what the cluster says.
"""

from __future__ import annotations

import functools
import socket
import ssl
from typing import Any

import anyio
from starlette.applications import Starlette

from headrace.clock import Clock
from headrace.cluster.access import AccessReviews, TokenReviews
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster, Scope
from headrace.cluster.signing import kubelet_serving
from headrace.node import certificates
from headrace.node.certificates import KeptCertificate
from headrace.node.guard import (
    ALLOWED_FOR_S,
    DENIED_FOR_S,
    TOKENS_FOR_S,
    ClusterAuthenticator,
    ClusterAuthorizer,
)
from headrace.roles.endpoint import Endpoint, EndpointTls
from headrace.roles.joined_file import SERVING_CERTIFICATE, JoinedNode
from headrace.roles.said import Said
from headrace.settings import Home
from headrace.spec.kind import Doc
from headrace.spec.kinds import CONFIG_MAP

AUTHENTICATION_NAMESPACE, AUTHENTICATION = "kube-system", "extension-apiserver-authentication"
_CLIENT_AUTHORITY = "client-ca-file"
_APPROVER = "Headrace's controller, which must run in the cluster (headrace install)"


class JoinedEndpoint:
    """Serves the endpoint of one node.

    Args:
        listener: bound, and not listening yet.
    """

    def __init__(
        self, node: JoinedNode, home: Home, cluster: Cluster, clock: Clock, listener: socket.socket, said: Said
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._clock = clock
        self._listener = listener
        self._said = said
        self._file = home.identity / SERVING_CERTIFICATE
        self._has_certificate = anyio.Event()
        self._tls: EndpointTls | None = None
        self._authorities = ""
        self._certificate = KeptCertificate(
            self._file,
            cluster,
            kubelet_serving(node.name, [node.address], lasts_s=node.certificate_s, approver=_APPROVER),
            clock,
            say=functools.partial(said.say, "endpoint"),
            renewed=self._show,
        )
        where = Scope(namespace=AUTHENTICATION_NAMESPACE, fields=f"metadata.name={AUTHENTICATION}")
        self._followed = Cache(cluster, {CONFIG_MAP: where})
        self._followed.subscribe(CONFIG_MAP, self._trust)

    async def serve(self, app: Starlette) -> None:
        """Serve until cancelled, as soon as there is a certificate to serve with."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._certificate.run)
            tasks.start_soon(self._followed.run)
            if certificates.ended(self._file, self._clock.now()):
                await self._has_certificate.wait()
            self._tls = EndpointTls(self._file, self._file, self._authorities)
            access = AccessReviews(self._cluster, self._clock, allowed_for_s=ALLOWED_FOR_S, denied_for_s=DENIED_FOR_S)
            endpoint = Endpoint(
                self._node.name,
                self._listener,
                self._tls,
                authenticator=ClusterAuthenticator(
                    TokenReviews(self._cluster, self._clock, remembered_for_s=TOKENS_FOR_S)
                ),
                authorizer=ClusterAuthorizer(access),
            )
            await endpoint.serve(app)

    async def _show(self) -> None:
        """Show the certificate that is in the file by now to whoever connects from now on."""
        if self._tls is not None:
            self._tls.show(self._file, self._file)
        self._has_certificate.set()

    def _trust(self, _old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        found = ((new.raw.get("data") or {}) if new is not None else {}).get(_CLIENT_AUTHORITY) or ""
        try:
            if self._tls is not None:
                self._tls.trust(found)
            self._authorities = found
        except ssl.SSLError as error:
            found = ""
            why = f"cannot be read: {error.reason}"
        else:
            why = "is not there, so the API server has no authority of clients"
        where = f"ConfigMap {AUTHENTICATION_NAMESPACE}/{AUTHENTICATION}"
        told = f"Only tokens are taken at this node's endpoint: {_CLIENT_AUTHORITY} of {where} {why}."
        self._said.say("callers", "" if found else told)
