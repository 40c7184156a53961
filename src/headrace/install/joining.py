"""Lets a machine into a cluster as a node, with the credential of somebody who may do that. Idempotent.

The credential is used here and nowhere else: what the node gets is a certificate of its own, and rights of its own.
"""

from __future__ import annotations

from typing import Any

import anyio
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.clock import Clock, parse_time
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.cluster.signing import KUBELET_CLIENT_SIGNER, Issued, Say, kubelet_client, obtain
from headrace.errors import AlreadyExists, Conflict, Denied, InvalidSpec, NotFound
from headrace.install.apply import apply
from headrace.install.kinds import CLUSTER_ROLE
from headrace.install.names import JOINED_NODE_ROLE
from headrace.install.node_objects import JOINED_NODE_EVERYWHERE, Membership, Taint, node, node_bindings
from headrace.install.objects import labelled
from headrace.install.rbac import cluster_role
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import LEASE, NODE, POOL
from headrace.spec.names import NODE_LEASE_NAMESPACE, NODE_POOL_LABEL

_NEEDED: tuple[tuple[str, Json], ...] = (
    ("make nodes", {"verb": "create", "resource": "nodes"}),
    ("change nodes", {"verb": "patch", "resource": "nodes"}),
    (
        "ask for certificates",
        {"verb": "create", "group": "certificates.k8s.io", "resource": "certificatesigningrequests"},
    ),
    (
        "approve certificates",
        {
            "verb": "patch",
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "subresource": "approval",
        },
    ),
    (
        f"approve certificates of {KUBELET_CLIENT_SIGNER}",
        {"verb": "approve", "group": "certificates.k8s.io", "resource": "signers", "name": KUBELET_CLIENT_SIGNER},
    ),
    (
        "bind cluster roles",
        {"verb": "create", "group": "rbac.authorization.k8s.io", "resource": "clusterrolebindings"},
    ),
    (
        "bind roles in kube-system",
        {
            "verb": "create",
            "group": "rbac.authorization.k8s.io",
            "resource": "rolebindings",
            "namespace": "kube-system",
        },
    ),
)
"""What whoever lets a node join must be allowed to do, in words and as SelfSubjectAccessReview asks it."""


async def membership(
    cluster: Cluster, name: str, pool: str, address: str, taints: tuple[Taint, ...] = ()
) -> Membership:
    """Return what a node of a pool is; raises NotFound when there is no such pool, or Headrace is not installed."""
    try:
        found = await cluster.get(POOL, Ref("", pool))
    except NotFound as error:
        try:
            names = [each.name for each in (await cluster.list(POOL)).items]
        except NotFound:
            names = []
        if names:
            raise NotFound(
                f"There is no Pool {pool} in this cluster; it has: {', '.join(sorted(names))}.",
                hint="Name one of them, or make it: see docs/reference/pool.md",
            ) from error
        raise NotFound(
            f"There is no Pool {pool} in this cluster, nor any other.",
            hint="Install Headrace there (headrace install), and make the pool: see docs/reference/pool.md",
        ) from error
    _check_selector(found, name)
    is_serverless = found.spec.get("kind") == "serverless"
    return Membership(name=name, pool=pool, address=address, is_serverless=is_serverless, more_taints=taints)


def _check_selector(pool: Doc[Any], name: str) -> None:
    selector = (pool.spec.get("nodes") or {}).get("selector") or {}
    if selector and selector != {NODE_POOL_LABEL: pool.name}:
        told = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
        raise InvalidSpec(
            f"Pool {pool.name} takes nodes with the labels {told}, which node {name} would have to give to itself: "
            "whoever stole its credential could then join any pool.",
            hint=f"Leave spec.nodes.selector of the pool out; it is then {NODE_POOL_LABEL}={pool.name}.",
        )


async def check_rights(cluster: Cluster) -> None:
    """Raise Denied with everything that the credential of `cluster` may not do and joining needs."""
    missing: list[str] = []

    async def ask(what: str, attributes: Json) -> None:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await cluster.request("POST", path, body=review)
        if not (answer.get("status") or {}).get("allowed"):
            missing.append(what)

    async with anyio.create_task_group() as tasks:
        for what, attributes in _NEEDED:
            tasks.start_soon(ask, what, attributes)
    if missing:
        raise Denied(
            f"Your credential may not {'; '.join(sorted(missing))}.",
            hint="A node joins with the rights of a cluster administrator; afterwards it has its own, and needs yours no more.",
        )


async def check_name(cluster: Cluster, member: Membership, clock: Clock) -> None:
    """Raise Conflict where the name is another node's: one that is not of Headrace, or that lives elsewhere."""
    try:
        found = await cluster.get(NODE, Ref("", member.name))
    except NotFound:
        return
    if NODE_POOL_LABEL not in found.labels or "kubelet" in _creators(found):
        raise Conflict(
            f"There is a node {member.name} in this cluster already, and it was not made by headrace node.",
            hint="Choose another name: --name NAME",
        )
    try:
        lease = await cluster.get(LEASE, Ref(NODE_LEASE_NAMESPACE, member.name))
    except NotFound:
        return
    renewed = parse_time(str(lease.spec.get("renewTime")))
    age_s = (clock.now() - renewed).total_seconds()
    if age_s < float(lease.spec.get("leaseDurationSeconds") or 40):
        raise Conflict(
            f"Node {member.name} is there already, and alive: it was heard of {age_s:.0f} s ago.",
            hint="Choose another name (--name NAME), or name its directory (--home) if it is this machine's.",
        )


def _creators(doc: Doc[Any]) -> set[str]:
    return {str(entry.get("manager")) for entry in doc.meta.get("managedFields") or []}


async def grant(cluster: Cluster, name: str) -> None:
    """Give the node's user its rights, before there is such a user. Idempotent."""
    bodies = [labelled(body) for body in node_bindings(name)]
    role = labelled(cluster_role(JOINED_NODE_ROLE, JOINED_NODE_EVERYWHERE))
    try:
        installed = await cluster.get(CLUSTER_ROLE, Ref("", JOINED_NODE_ROLE))
    except NotFound:
        installed = None
    if installed is None or installed.raw.get("rules") != role["rules"]:
        bodies.insert(0, role)
    async for _ in apply(cluster, bodies, force=True):
        pass


async def client_certificate(
    cluster: Cluster, member: Membership, key: ec.EllipticCurvePrivateKey, lasts_s: int, say: Say
) -> Issued:
    """Return the node's own credential, approved with the rights of `cluster`."""
    wanted = kubelet_client(member.name, lasts_s=lasts_s, approver="whoever may")
    return await obtain(cluster, wanted, key, say=say, approves=f"An operator lets node {member.name} join.")


async def register(cluster: Cluster, member: Membership) -> None:
    """Make the Node, or give the one there is the pool's label and taint. Idempotent."""
    body = node(member)
    ref = Ref("", member.name)
    try:
        await cluster.create(NODE, body)
        return
    except AlreadyExists:
        found = await cluster.get(NODE, ref)
    kept = [
        taint for taint in found.spec.get("taints") or [] if taint.get("key") not in {t["key"] for t in member.taints}
    ]
    patch: Json = {
        "metadata": {"labels": body["metadata"]["labels"], "resourceVersion": found.version},
        "spec": {"taints": [*kept, *member.taints], "unschedulable": None},
    }
    await cluster.patch(NODE, ref, MergePatch(patch))
