"""Takes an installation out of a cluster. User data stays: objects of our kinds, the ledger, the projects.

Nothing that stays may wait for us: our finalizers are taken off, so everything can be deleted without us, and a later
installation finds it again. What does not carry our label was made by somebody else under our name, and is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import msgspec

from headrace.cluster.protocol import Cluster, JsonPatch, Scope
from headrace.errors import Conflict, InvalidSpec, NotFound, Unavailable
from headrace.install.apply import Outcome
from headrace.install.installation import Installation
from headrace.install.kinds import CLUSTER_ROLE_BINDING, DEPLOYMENT, ROLE_BINDING
from headrace.install.names import ADMISSION, AUTHORITY_SECRET, CONTROLLER, KEY_SECRET, TLS_SECRET
from headrace.install.node_objects import joined_by, node_bindings
from headrace.install.objects import LABELS, kind_of, parts, ref_of
from headrace.install.rbac import PROJECT_FINALIZER, PROJECT_READER, PROJECT_ROLE
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import (
    CRD,
    DAEMON_SET,
    DATA_LOAD,
    DATASET,
    DEFINED_KINDS,
    FLUID_KINDS,
    HEADRACE_KINDS,
    LEASE,
    NODE_MOUNT,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    THIN_RUNTIME,
)
from headrace.spec.names import (
    DATA_LOAD_FINALIZER,
    DATASET_FINALIZER,
    METERED_FINALIZER,
    THIN_RUNTIME_FINALIZER,
    WRAPPER_FINALIZER,
)

_OUR_FINALIZERS = {
    *(DATASET_FINALIZER, THIN_RUNTIME_FINALIZER, DATA_LOAD_FINALIZER),
    *(METERED_FINALIZER, WRAPPER_FINALIZER, PROJECT_FINALIZER),
}
_HELD: tuple[Kind[Any], ...] = (POD, DATASET, THIN_RUNTIME, DATA_LOAD)
_MADE: tuple[tuple[Kind[Any], str], ...] = (
    *((SECRET, name) for name in (KEY_SECRET, AUTHORITY_SECRET, TLS_SECRET)),
    *((LEASE, name) for name in (CONTROLLER,)),
)
"""What our processes have made at home."""
_WITHIN_S = 90.0
_CLEANED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.2
_SHOWN = 5

Say = Callable[[str], None]


async def remove(
    cluster: Cluster, installation: Installation, say: Say, *, purge: bool = False
) -> AsyncIterator[Outcome]:
    """Delete what was installed, in the order that leaves nothing waiting, and yield what is gone. Idempotent.

    Args:
        say: is given a sentence about whatever is kept, and why.
        purge: delete user data too: every object of our kinds, in all namespaces, and the ledger.

    Raises:
        Conflict: pods of nodes mount Datasets, which nothing could unmount without the driver; nothing is deleted then.
        Unavailable: something is not gone in time, such as an object that a finalizer of somebody else's holds.
    """
    await _refuse_in_use(cluster)
    found = parts(msgspec.structs.replace(installation, workloads=True))  # what was left out is just not there
    ledger, definitions, spaces = (found.pop(name, []) for name in ("ledger", "definitions", "namespaces"))
    rest = [body for bodies in reversed([*found.values()]) for body in reversed(bodies)]
    workloads = [body for body in rest if kind_of(body) in {DEPLOYMENT, DAEMON_SET}]
    hooks = [body for body in rest if body in found["webhooks"]]
    others = [body for body in rest if body not in workloads and body not in hooks]
    async for gone in _delete_all(cluster, hooks):  # first of all: nobody is asked who does not run any more
        yield gone
    if purge:
        await _delete_user_objects(cluster, installation, say)
    async for gone in _delete_all(cluster, workloads):
        yield gone
    await _without_pods(cluster, installation)
    await _release(cluster)
    async for gone in _leave_projects(cluster):
        yield gone
    async for gone in _leave_nodes(cluster, say, purge=purge):
        yield gone
    for kind, name in _MADE:
        if await _delete(cluster, kind, Ref(installation.namespace, name)):
            yield Outcome(kind, Ref(installation.namespace, name), "deleted", {})
    async for gone in _delete_all(cluster, others):
        yield gone
    async for gone in _delete_definitions(cluster, definitions, say, purge=purge):
        yield gone
    async for gone in _delete_homes(cluster, installation, spaces, ledger, say, purge=purge):
        yield gone


async def _refuse_in_use(cluster: Cluster) -> None:
    mounts = await _every(cluster, NODE_MOUNT)
    if not mounts:
        return
    specs = [mount.view.spec for mount in mounts]
    used = sorted({f"{spec.dataset.namespace}/{spec.dataset.name} on {spec.node_name}" for spec in specs})
    more = " and more" if len(used) > _SHOWN else ""
    raise Conflict(
        f"Pods mount Datasets by PersistentVolumes, and without the driver they could never end: "
        f"{', '.join(used[:_SHOWN])}{more}.",
        hint="End these pods first. Of a node that is gone: kubectl delete nodemounts NAME",
    )


async def _delete_all(cluster: Cluster, bodies: Sequence[Json]) -> AsyncIterator[Outcome]:
    for body in bodies:
        kind, ref = kind_of(body), ref_of(body)
        if await _is_ours(cluster, kind, ref) and await _delete(cluster, kind, ref):
            yield Outcome(kind, ref, "deleted", {})


async def _is_ours(cluster: Cluster, kind: Kind[Any], ref: Ref) -> bool:
    try:
        doc = await cluster.get(kind, ref)
    except NotFound:
        return False
    return all(doc.labels.get(key) == value for key, value in LABELS.items())


async def _delete(cluster: Cluster, kind: Kind[Any], ref: Ref) -> bool:
    try:
        await cluster.delete(kind, ref)
    except NotFound:
        return False
    return True


async def _pods(cluster: Cluster, installation: Installation) -> list[Doc[Any]]:
    labels = f"app.kubernetes.io/name in ({CONTROLLER},{ADMISSION})"
    return (await cluster.list(POD, Scope(namespace=installation.namespace, labels=labels))).items


async def _without_pods(cluster: Cluster, installation: Installation) -> None:
    """Wait until no process of ours runs: it would put its finalizers on again."""
    end = anyio.current_time() + _WITHIN_S
    while await _pods(cluster, installation):
        if anyio.current_time() > end:
            raise Unavailable(
                f"Pods in {installation.namespace} have not ended.", hint="Repeat it: headrace install --uninstall"
            )
        await anyio.sleep(_LOOK_EVERY_S)


# -- what we hold --------------------------------------------------------------------------------------------------------


async def _every(cluster: Cluster, kind: Kind[Any]) -> list[Doc[Any]]:
    """Return all objects of a kind; none where the kind is not known."""
    found: list[Doc[Any]] = []
    resume = ""
    with contextlib.suppress(NotFound):
        while True:
            page = await cluster.list(kind, resume=resume)
            found += page.items
            if not (resume := page.resume):
                break
    return found


async def _release(cluster: Cluster) -> None:
    """Take our finalizers off everything that stays."""
    for kind in _HELD:
        for doc in await _every(cluster, kind):
            await _without_finalizers(cluster, doc)


async def _without_finalizers(cluster: Cluster, doc: Doc[Any]) -> None:
    keep = [name for name in doc.finalizers if name not in _OUR_FINALIZERS]
    if len(keep) == len(doc.finalizers):
        return
    path = "/metadata/finalizers"
    operations = [
        {"op": "test", "path": path, "value": list(doc.finalizers)},
        {"op": "replace", "path": path, "value": keep},
    ]
    with contextlib.suppress(NotFound, InvalidSpec):  # gone, or somebody else changed them: then it is not ours alone
        await cluster.patch(doc.kind, doc.ref, JsonPatch(operations))


async def _leave_projects(cluster: Cluster) -> AsyncIterator[Outcome]:
    """Give back the rights in projects; the namespaces keep their label, and are projects again when we come back."""
    for doc in await _every(cluster, ROLE_BINDING):
        role = (doc.raw.get("roleRef") or {}).get("name")
        if doc.name in {PROJECT_ROLE, PROJECT_READER} and role == doc.name:
            await _without_finalizers(cluster, doc)
            if await _delete(cluster, ROLE_BINDING, doc.ref):
                yield Outcome(ROLE_BINDING, doc.ref, "deleted", {})


async def _leave_nodes(cluster: Cluster, say: Say, *, purge: bool) -> AsyncIterator[Outcome]:
    """Tell which machines are nodes still. Their own rights go with --purge; else a later installation is theirs again."""
    names = sorted(filter(None, map(joined_by, await _every(cluster, CLUSTER_ROLE_BINDING))))
    if not names:
        return
    shown = f"{', '.join(names[:_SHOWN])}{' and more' if len(names) > _SHOWN else ''}"
    say(f"Still joined by headrace node, and of no use without Headrace: {shown}. There: headrace node --leave")
    if purge:
        async for gone in _delete_all(cluster, [body for name in names for body in node_bindings(name)]):
            yield gone


# -- user data -----------------------------------------------------------------------------------------------------------


async def _delete_user_objects(cluster: Cluster, installation: Installation, say: Say) -> None:
    """Delete every object of our kinds, and let the controllers clean up if any runs; the rest is let go afterwards."""
    kinds = (*reversed(HEADRACE_KINDS), *reversed(FLUID_KINDS))
    left: list[Doc[Any]] = []
    for kind in kinds:
        docs = await _every(cluster, kind)
        for doc in docs:
            await _delete(cluster, kind, doc.ref)
        left += docs
        if docs:
            say(f"Deleted {len(docs)} {kind.plural}.")
    end = anyio.current_time() + _CLEANED_WITHIN_S
    while left and anyio.current_time() < end and any(map(_runs, await _pods(cluster, installation))):
        left = [doc for doc in left if await _is_there(cluster, doc)]
        await anyio.sleep(_LOOK_EVERY_S)


def _runs(pod: Doc[Any]) -> bool:
    return pod.status.get("phase") == "Running"


async def _is_there(cluster: Cluster, doc: Doc[Any]) -> bool:
    try:
        return (await cluster.get(doc.kind, doc.ref)).uid == doc.uid
    except NotFound:
        return False


async def _delete_definitions(
    cluster: Cluster, bodies: Sequence[Json], say: Say, *, purge: bool
) -> AsyncIterator[Outcome]:
    kept: list[str] = []
    kinds = {kind.resource: kind for kind in DEFINED_KINDS}
    for body in bodies:
        ref = ref_of(body)
        count = 0 if purge else len(await _every(cluster, kinds[ref.name]))
        if count:
            kept.append(f"{ref.name} ({count})")
        elif await _is_ours(cluster, CRD, ref) and await _delete(cluster, CRD, ref):
            yield Outcome(CRD, ref, "deleted", {})
    if kept:
        say(f"These kinds stay, because there are objects of them: {', '.join(kept)}. --purge deletes them too.")


async def _delete_homes(
    cluster: Cluster,
    installation: Installation,
    spaces: Sequence[Json],
    ledger: Sequence[Json],
    say: Say,
    *,
    purge: bool,
) -> AsyncIterator[Outcome]:
    """Delete our namespaces, but for the first one when something of the user's is in it."""
    if purge:
        async for gone in _delete_all(cluster, ledger):
            yield gone
    kept = [] if purge else await _foreign(cluster, installation.namespace)
    for body in reversed(spaces):
        if kept and ref_of(body).name == installation.namespace:
            shown = f"{', '.join(kept[:_SHOWN])}{' and more' if len(kept) > _SHOWN else ''}"
            say(f"Namespace {installation.namespace} stays, because it holds {shown}. --purge deletes it too.")
            continue
        async for gone in _delete_all(cluster, [body]):
            yield gone


async def _foreign(cluster: Cluster, namespace: str) -> list[str]:
    """Return what a namespace holds that a user would miss: claims, the ledger's among them, Secrets and pods."""
    where = Scope(namespace=namespace)
    kinds: tuple[Kind[Any], ...] = (PERSISTENT_VOLUME_CLAIM, SECRET, POD)
    return [
        f"{kind.singular}/{doc.name}"
        for kind in kinds
        for doc in (await cluster.list(kind, where)).items
        if not doc.is_deleting
    ]
