"""What a node that joined a cluster keeps of itself, so that every later start of it agrees: in its home, `node.json`."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from headrace.errors import EngineFailed
from headrace.settings import Home
from headrace.spec.kind import Json

SETTINGS = "node.json"
SAID = "said.json"
WORLD = "node"
"""What the node's world is called on this machine; node names may be too long for a socket's path."""
CLIENT_CERTIFICATE, SERVING_CERTIFICATE = "client.pem", "serving.pem"
PROCESS = "node"
CERTIFICATE_S = 7 * 24 * 3600
"""How long its certificates are good for, unless somebody says otherwise; they are renewed long before."""


class JoinedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node of one cluster.

    Args:
        address: where the API server finds the node's endpoint.
        port: the endpoint's, when one was asked for; 0 leaves it to the node, see `joined_port`.
        cpu, memory: what the node offers; empty means what this machine has.
        persistent_volumes: whether its driver serves PersistentVolumes, as the organisation's own nodes' do.
        hidden: what no pod may see of this machine, besides the home.
        path: PATH of its processes, where storage clients are looked for.
        certificate_s: seconds that its certificates should be good for.
        mirrors: where images are looked for first, as `PREFIX=URL`.
    """

    name: str
    pool: str
    server: str
    address: str
    port: int = 0
    is_serverless: bool = False
    cpu: str = ""
    memory: str = ""
    persistent_volumes: bool = False
    hidden: tuple[str, ...] = ()
    path: str = ""
    certificate_s: int = CERTIFICATE_S
    mirrors: tuple[str, ...] = ()


def write(home: Home, node: JoinedNode) -> None:
    """Store the settings atomically."""
    target = home.root / SETTINGS
    temporary = target.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(node)))
    os.replace(temporary, target)


def find(home: Home) -> JoinedNode | None:
    """Return the stored settings; None where no node has this home."""
    return read(home) if (home.root / SETTINGS).is_file() else None


def read(home: Home) -> JoinedNode:
    """Return the stored settings; raises EngineFailed when they cannot be read."""
    path = home.root / SETTINGS
    try:
        return msgspec.json.decode(path.read_bytes(), type=JoinedNode)
    except (OSError, msgspec.DecodeError) as error:
        raise EngineFailed(f"{path} cannot be read: {error}.", hint="Join again with --kubeconfig FILE.") from error


def kubeconfig(node: JoinedNode, authority: str, *, is_insecure: bool) -> Json:
    """Return the kubeconfig of the node's own user; its certificate lies beside it.

    Args:
        authority: whom to trust, in base64; empty means those whom the machine trusts.
    """
    cluster: dict[str, Any] = {"server": node.server}
    if authority:
        cluster["certificate-authority-data"] = authority
    if is_insecure:
        cluster["insecure-skip-tls-verify"] = True
    certificate = f"identity/{CLIENT_CERTIFICATE}"
    user = f"system:node:{node.name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": certificate}}],
        "contexts": [{"name": "node", "context": {"cluster": "cluster", "user": user}}],
        "current-context": "node",
    }
