"""Brings an installation into a cluster by server-side apply. Idempotent."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import msgspec

from headrace.cluster.protocol import Cluster, ServerSideApply
from headrace.errors import AlreadyExists, Conflict, InvalidSpec, NotFound, Unavailable, Unsupported
from headrace.install.installation import DATABASE_KEY, Installation
from headrace.install.objects import kind_of, ref_of
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import CRD, CSI_DRIVER, NAMESPACE, PRIORITY_CLASS, SECRET

MANAGER = "headrace"
_STAND_IN_NAMESPACE = "default"
_ENDS_WITHIN_S = 90.0
_REPLACED: tuple[Kind[Any], ...] = (CSI_DRIVER, PRIORITY_CLASS)
"""Kinds with fields that never change, and that can be made anew under those who use them: pods keep what they have."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one object: `created`, `configured`, `replaced` or `unchanged`."""

    kind: Kind[Any]
    ref: Ref
    what: str
    body: Json


async def check_cluster(cluster: Cluster, installation: Installation, *, dry_run: bool = False) -> None:
    """Raise Unsupported where Headrace cannot be installed, NotFound when the database's Secret is not there."""
    try:
        for path in ("/apis/apps/v1", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"):
            await cluster.request("GET", path)
    except NotFound as error:
        raise Unsupported(
            "This server has no Deployments or no ValidatingAdmissionPolicies, so Headrace cannot be installed there. "
            "The embedded engine has all of Headrace in it already; a cluster needs Kubernetes 1.30 or newer.",
            hint="Name a cluster: headrace install --kubeconfig FILE",
        ) from error
    if installation.database_secret and not dry_run:
        await _check_secret(cluster, Ref(installation.namespace, installation.database_secret))


async def _check_secret(cluster: Cluster, ref: Ref) -> None:
    hint = (
        f"Make it: kubectl create namespace {ref.namespace}; kubectl create secret generic {ref.name} -n {ref.namespace} "
        f"--from-literal={DATABASE_KEY}=postgresql://USER:PASSWORD@HOST/DATABASE"
    )
    try:
        secret = await cluster.get(SECRET, ref)
    except NotFound as error:
        raise NotFound(f"There is no Secret {ref} with the database's URL.", hint=hint) from error
    if DATABASE_KEY not in (secret.raw.get("data") or {}):
        raise NotFound(f"Secret {ref} has no entry {DATABASE_KEY!r}.", hint=hint)


async def apply(
    cluster: Cluster, bodies: Sequence[Json], *, dry_run: bool = False, force: bool = False
) -> AsyncIterator[Outcome]:
    """Apply objects in order and yield what became of each.

    A dry run asks the server about every object and changes nothing; what is in a namespace that is yet to be made, it
    asks about in the namespace `default`.

    Raises:
        Conflict: in the end, with every field that somebody else owns; whatever does not conflict is done by then.
    """
    conflicts: list[tuple[str, str]] = []
    for body in bodies:
        kind, ref = kind_of(body), ref_of(body)
        try:
            yield await _apply_one(cluster, kind, ref, body, dry_run=dry_run, force=force)
        except Conflict as error:
            conflicts.append((f"{kind.singular}/{ref}", error.what))
        if kind is CRD and not dry_run:
            await _established(cluster, ref)
    if conflicts:
        raise FieldsOwned(conflicts)


class FieldsOwned(Conflict):
    """Somebody else set fields that the installation sets too. Nothing of theirs was changed."""

    def __init__(self, conflicts: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            "Others have set what Headrace sets in these objects:",
            hint="Take it over with --force, or let whoever set it give it up.",
        )
        self.causes = tuple(conflicts)


async def make_namespaces(cluster: Cluster, names: Sequence[str]) -> None:
    """Make the namespaces that are missing. Their labels are applied like everything else, when the time has come."""
    for name in names:
        with contextlib.suppress(AlreadyExists):
            await cluster.create(NAMESPACE, {"metadata": {"name": name}})


async def _apply_one(cluster: Cluster, kind: Kind[Any], ref: Ref, body: Json, *, dry_run: bool, force: bool) -> Outcome:
    before = await _find(cluster, kind, ref)
    if before is not None and before.is_deleting and not dry_run:
        await _ended(cluster, kind, ref)
        before = None
    if dry_run and before is None and ref.namespace and await _find(cluster, NAMESPACE, Ref("", ref.namespace)) is None:
        body = copy.deepcopy(body)
        body["metadata"]["namespace"] = _STAND_IN_NAMESPACE
    asked = Ref(body["metadata"].get("namespace", ""), ref.name)
    try:
        after = await cluster.patch(kind, asked, ServerSideApply(body, MANAGER, force), dry_run=dry_run)
    except InvalidSpec:
        if before is None or kind not in _REPLACED:
            raise
        return await _replace(cluster, before, body, dry_run=dry_run)
    what = "created" if before is None else "unchanged" if _same(before.raw, after.raw) else "configured"
    return Outcome(kind, ref, what, after.raw)


async def _replace(cluster: Cluster, before: Doc[Any], body: Json, *, dry_run: bool) -> Outcome:
    """Make an object of an earlier version anew, whose fields the server does not let change."""
    raw = body
    if not dry_run:
        await cluster.delete(before.kind, before.ref, uid=before.uid)
        await _ended(cluster, before.kind, before.ref)
        raw = (await cluster.patch(before.kind, before.ref, ServerSideApply(body, MANAGER, force=False))).raw
    return Outcome(before.kind, before.ref, "replaced", raw)


def _same(before: Json, after: Json) -> bool:
    """Tell whether applying changed nothing. Others write status and versions at any moment, so these are not looked at."""
    return _contents(before) == _contents(after)


def _contents(raw: Json) -> Json:
    meta = {key: raw["metadata"].get(key) for key in ("labels", "finalizers")}
    return {**{key: value for key, value in raw.items() if key != "status"}, "metadata": meta}


async def _find(cluster: Cluster, kind: Kind[Any], ref: Ref) -> Doc[Any] | None:
    try:
        return await cluster.get(kind, ref)
    except NotFound:
        return None


async def _ended(cluster: Cluster, kind: Kind[Any], ref: Ref) -> None:
    """Wait for what somebody deletes, such as an uninstallation a moment ago: what is put into it would be lost."""
    end = anyio.current_time() + _ENDS_WITHIN_S
    while (doc := await _find(cluster, kind, ref)) is not None and doc.is_deleting:
        if anyio.current_time() > end:
            raise Unavailable(
                f"{kind.name} {ref} is being deleted, and does not go.",
                hint=f"See what holds it: kubectl get {kind.resource} {ref.name} -o yaml",
            )
        await anyio.sleep(0.2)


async def _established(cluster: Cluster, ref: Ref) -> None:
    """Wait until a kind is served; what comes afterwards may name it."""
    with anyio.fail_after(30):
        while True:
            conditions = (await cluster.get(CRD, ref)).status.get("conditions") or ()
            if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                return
            await anyio.sleep(0.05)
