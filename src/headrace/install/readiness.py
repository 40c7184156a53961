"""Waits until what was installed is ready, and says what it waits for: pods that do not start, claims that nobody fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio

from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import HeadraceError, NotFound, Unavailable
from headrace.install.kinds import API_SERVICE, DEPLOYMENT
from headrace.install.objects import kind_of, ref_of
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import DAEMON_SET, NODE, PERSISTENT_VOLUME_CLAIM, POD

_LOOK_EVERY_S = 0.5
_NAMED = 5


async def await_ready(
    cluster: Cluster, bodies: Sequence[Json], say: Callable[[str], None], *, timeout_s: float
) -> None:
    """Return when every workload is ready and the aggregated API answers.

    `say` is given a sentence whenever what is waited for changes. Raises Unavailable with it when the time is over.
    """
    waited = [(kind_of(body), ref_of(body)) for body in bodies]
    waited = [(kind, ref) for kind, ref in waited if kind in {DEPLOYMENT, DAEMON_SET, API_SERVICE}]
    if not waited:
        return
    if not (await cluster.list(NODE, limit=1)).items:
        say("The cluster has no node, so nothing can become ready yet.")
        return
    told = why = ""
    with anyio.move_on_after(timeout_s):
        while True:
            why = await _why_not_ready(cluster, waited)
            if not why:
                return
            if why != told:
                say(why)
                told = why
            await anyio.sleep(_LOOK_EVERY_S)
    raise Unavailable(
        f"After {timeout_s:g} s it is not ready: {why or 'the API server does not answer.'}",
        hint="What is installed stays. Look again with: headrace install",
    )


async def _why_not_ready(cluster: Cluster, waited: Sequence[tuple[Kind[Any], Ref]]) -> str:
    for kind, ref in waited:
        try:
            doc = await cluster.get(kind, ref)
        except (NotFound, Unavailable) as error:
            return str(error)
        if why := _unready(doc):
            return " ".join([why, *await _hindrances(cluster, ref.namespace)])
    return ""


def _unready(doc: Doc[Any]) -> str:
    status = doc.status
    if doc.kind is API_SERVICE:
        conditions: list[Json] = status.get("conditions") or []
        found: Json = next((each for each in conditions if each["type"] == "Available"), {})
        is_available = found.get("status") == "True"
        return "" if is_available else f"{doc.name} does not answer yet: {found.get('message', 'nobody has asked')}."
    if status.get("observedGeneration", 0) < doc.generation:
        return f"{doc.kind.name} {doc.ref} has not been looked at yet."
    if doc.kind is DEPLOYMENT:
        wanted, ready = int(doc.spec.get("replicas", 1)), int(status.get("readyReplicas", 0))
        fresh = int(status.get("updatedReplicas", 0))
    else:
        wanted, ready = int(status.get("desiredNumberScheduled", 0)), int(status.get("numberReady", 0))
        fresh = int(status.get("updatedNumberScheduled", 0))
    if ready >= wanted and fresh >= wanted:
        return ""
    return f"{doc.kind.name} {doc.ref}: {min(ready, fresh)} of {wanted} ready."


async def _hindrances(cluster: Cluster, namespace: str) -> list[str]:
    """Return, as sentences, why pods of a namespace do not start."""
    if not namespace:
        return []
    where = Scope(namespace=namespace)
    found: list[str] = []
    try:
        found += [
            f"Claim {claim.ref} is {claim.status.get('phase', 'new')}: it needs a default StorageClass, or "
            "--storage-class, or a database (--database-secret)."
            for claim in (await cluster.list(PERSISTENT_VOLUME_CLAIM, where)).items
            if claim.status.get("phase") != "Bound"
        ]
        for pod in (await cluster.list(POD, where)).items:
            found += _pod_hindrances(pod)
    except HeadraceError as error:
        found.append(str(error))
    return list(dict.fromkeys(found))[:_NAMED]


def _pod_hindrances(pod: Doc[Any]) -> list[str]:
    found = [
        f"{condition.get('message')}."
        for condition in pod.status.get("conditions") or ()
        if condition["type"] == "PodScheduled" and condition["status"] == "False" and condition.get("message")
    ]
    for status in pod.status.get("containerStatuses") or ():
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            found.append(f"Pod {pod.ref}: {waiting['reason']}: {waiting.get('message', '')}.")
    return found
