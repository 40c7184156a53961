"""What a Kubernetes server does to an object that is created, changed or deleted, whatever its kind. Pure.

Source: Kubernetes API conventions, "Metadata" and "Spec and status"; apiserver `registry/rest` and `registry/generic`.
"""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

from headrace.clock import format_time
from headrace.errors import Conflict, InvalidSpec
from headrace.ids import name_suffix, new_uid
from headrace.spec.kind import Json, Kind

_SERVER_OWNED = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
)
_FIRST_STATUS: dict[str, Json] = {
    "namespaces": {"phase": "Active"},
    "persistentvolumeclaims": {"phase": "Pending"},
    "persistentvolumes": {"phase": "Pending"},
    "pods": {"phase": "Pending"},
}
_ENDED = {"Succeeded", "Failed"}


def created(kind: Kind[Any], body: Json, now: dt.datetime) -> Json:
    """Return the object that a create request makes, still without a version."""
    raw = copy.deepcopy(body)
    meta = raw["metadata"] = {k: v for k, v in (raw.get("metadata") or {}).items() if k not in _SERVER_OWNED}
    raw.update(apiVersion=kind.api_version, kind=kind.name)
    if kind.namespaced != bool(meta.get("namespace")):
        raise InvalidSpec(
            f"{kind.name} is {'namespaced' if kind.namespaced else 'not namespaced'}.",
            hint=f"{'Set' if kind.namespaced else 'Remove'} metadata.namespace.",
            causes=(("metadata.namespace", "required" if kind.namespaced else "forbidden"),),
        )
    if not meta.get("name"):
        if not meta.get("generateName"):
            raise InvalidSpec(
                f"{kind.name} has no name.", hint="Set metadata.name.", causes=(("metadata.name", "required"),)
            )
        meta["name"] = meta["generateName"] + name_suffix()
    meta.update(uid=new_uid(), creationTimestamp=format_time(now), generation=1)
    if kind.has_status:
        raw = _with(raw, status=copy.deepcopy(_FIRST_STATUS.get(kind.resource)))
    return raw


def updated(kind: Kind[Any], old: Json, wanted: Json, subresource: str) -> Json:
    """Return what stays of a change: a status stays with `status`, everything else without; the server's own fields stay.

    Raises Conflict when `wanted` names another version or uid, InvalidSpec when it renames the object or adds a
    finalizer to one that is being deleted.
    """
    before, meta = old["metadata"], wanted.get("metadata") or {}
    for field in ("resourceVersion", "uid"):
        if meta.get(field, before[field]) != before[field]:
            raise Conflict(
                f"{kind.name} {before['name']!r} has changed: metadata.{field} is {before[field]}, not {meta[field]}.",
                hint="Read it again and decide again.",
            )
    for field in ("name", "namespace"):
        if meta.get(field) != before.get(field):
            raise InvalidSpec(f"metadata.{field} cannot be changed.", causes=((f"metadata.{field}", "immutable"),))
    if subresource == "status":
        return _with(old, status=wanted.get("status"))
    new = _with(wanted, status=old.get("status")) if kind.has_status else dict(wanted)
    owned = {field: before[field] for field in _SERVER_OWNED if field in before}
    new["metadata"] = {**{k: v for k, v in meta.items() if k not in _SERVER_OWNED}, **owned}
    added = set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ())
    if before.get("deletionTimestamp") and added:
        raise InvalidSpec(
            f"{kind.name} {before['name']!r} is being deleted and gets no new finalizer.",
            causes=(("metadata.finalizers", f"added {sorted(added)}"),),
        )
    if _specified(kind, new) != _specified(kind, old):
        new["metadata"]["generation"] = before.get("generation", 0) + 1
    return new


def _with(raw: Json, *, status: Any) -> Json:
    rest = {key: value for key, value in raw.items() if key != "status"}
    return rest if status is None else {**rest, "status": status}


def _specified(kind: Kind[Any], raw: Json) -> Json:
    """Return what a generation counts the changes of: everything but metadata and a status with its own endpoint."""
    return {key: value for key, value in raw.items() if key != "metadata" and not (key == "status" and kind.has_status)}


def grace_period_s(kind: Kind[Any], raw: Json, asked_s: int | None) -> int:
    """Return how long a deletion waits for the kubelet: pods that are on a node and have not ended, nothing else."""
    spec = raw.get("spec") or {}
    if kind.resource != "pods" or not spec.get("nodeName") or (raw.get("status") or {}).get("phase") in _ENDED:
        return 0
    default: int = spec.get("terminationGracePeriodSeconds", 30)
    wanted_s = default if asked_s is None else asked_s
    running_s: int = raw["metadata"].get("deletionGracePeriodSeconds", wanted_s)
    return min(wanted_s, running_s)


def marked_for_deletion(raw: Json, grace_s: int, now: dt.datetime) -> Json:
    """Return the object as it waits for its finalizers or its kubelet; repeated, only the grace period shrinks."""
    meta = dict(raw["metadata"])
    if "deletionTimestamp" not in meta:
        meta["generation"] = meta.get("generation", 0) + 1
    elif meta.get("deletionGracePeriodSeconds", 0) <= grace_s:
        return raw
    meta["deletionTimestamp"] = format_time(now + dt.timedelta(seconds=grace_s))
    meta["deletionGracePeriodSeconds"] = grace_s
    return {**raw, "metadata": meta}


def is_gone(raw: Json) -> bool:
    """Tell whether nothing keeps a deleted object any more."""
    meta = raw["metadata"]
    return "deletionTimestamp" in meta and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")
