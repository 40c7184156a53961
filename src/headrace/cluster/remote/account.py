"""Acting as a service account of a cluster with tokens that somebody else may ask for (the TokenRequest API).

The credential that asks is not used for anything else, and no token is kept: each is good for an hour, and a refused one
is asked for anew (`connection.BearerAuth`).
"""

from __future__ import annotations

import base64
import ssl

from headrace.cluster.protocol import Cluster
from headrace.cluster.remote.cluster import RemoteCluster
from headrace.cluster.remote.connection import BearerAuth, Connection, Target, TokenSource
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import SERVICE_ACCOUNT

_TOKEN_S = 3600


def as_account(cluster: Cluster, target: Target, account: Ref, *, agent: str = "headrace") -> RemoteCluster:
    """Return a client of `target` that is the service account; `cluster` is the same server, and asks for tokens."""
    auth = BearerAuth(_requested(cluster, account))
    return RemoteCluster(Connection(server=target.server, tls=trust(target), auth=auth, agent=agent).open())


def trust(target: Target) -> ssl.SSLContext:
    """Return what is needed to know a server, and no credential."""
    context = ssl.create_default_context(
        cadata=base64.b64decode(target.authority).decode() if target.authority else None
    )
    if target.is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _requested(cluster: Cluster, account: Ref) -> TokenSource:
    path = SERVICE_ACCOUNT.path(account.namespace, account.name, "token")
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_S},
    }

    async def ask() -> str:
        answer: Json = await cluster.request("POST", path, body=body)
        return str(answer["status"]["token"])

    return ask
