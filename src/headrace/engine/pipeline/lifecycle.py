"""What the server itself decides about an object from its creation to its removal: metadata, status, generation.

Pure functions over raw JSON; nothing given is changed. Sources: apiserver `registry/rest/{create,update,delete}.go`,
`registry/generic/registry/store.go`, and the create and update strategies of the core kinds.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Any, Literal

from headrace import ids
from headrace.clock import format_time
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.registry import Resource
from headrace.spec.kind import Json
from headrace.spec.names import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from headrace.spec.resources import qos_class

Finding = tuple[str, str]
Propagation = Literal["Background", "Foreground", "Orphan"] | None

_SERVERS_OWN = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)
_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_WITH_GENERATION = frozenset({"Pod", "CustomResourceDefinition", "PriorityClass"})
_STATUS_MAY_BE_CREATED = frozenset({"Node"})  # an agent creates its Node with all it knows, as the kubelet does
_STATUS_AT_FIRST: dict[str, Json] = {
    "Namespace": {"phase": "Active"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "PersistentVolume": {"phase": "Pending"},
    "Service": {"loadBalancer": {}},
}
_GENERATED_MAX = 58
_ATTEMPT_LETTERS = 5


def new_object(raw: Json, resource: Resource, namespace: str, now: dt.datetime) -> Json:
    """Return the object as it is before defaulting: the server's own metadata set, status as at first.

    `managedFields` stay as they came, here as in an update: whose fields they are is judged by `managing`.
    """
    given = raw["metadata"]
    if given.get("resourceVersion"):
        raise BadRequest("resourceVersion should not be set on objects to be created")
    metadata = {key: value for key, value in given.items() if key not in _SERVERS_OWN}
    if resource.kind.namespaced:
        metadata["namespace"] = namespace
    metadata["uid"] = ids.new_uid()
    metadata["creationTimestamp"] = format_time(now)
    if _has_generation(resource):
        metadata["generation"] = 1
    result = raw | {"metadata": metadata}
    if resource.kind.has_status and resource.kind.name not in _STATUS_MAY_BE_CREATED:
        result.pop("status", None)
        if resource.source == "builtin" and resource.kind.name in _STATUS_AT_FIRST:
            result["status"] = _STATUS_AT_FIRST[resource.kind.name]
    return result


def placed(raw: Json, resource: Resource, namespace: str) -> Json:
    """Return the object in the namespace of the request; raises BadRequest when it says it is in another."""
    metadata = raw["metadata"]
    expected = namespace if resource.kind.namespaced else ""
    given = metadata.get("namespace") or ""
    if given == expected:
        return raw
    if given:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    return raw | {"metadata": metadata | {"namespace": namespace}}


def with_name(raw: Json) -> Json:
    """Return the object with a fresh generated name when it has only a `generateName`."""
    metadata = raw["metadata"]
    if metadata.get("name") or not metadata.get("generateName"):
        return raw
    name = f"{metadata['generateName'][:_GENERATED_MAX]}{ids.name_suffix(_ATTEMPT_LETTERS)}"
    return raw | {"metadata": metadata | {"name": name}}


def born(raw: Json, resource: Resource) -> Json:
    """Return the object with the status that follows from its defaulted and admitted spec."""
    if resource.source == "builtin" and resource.kind.name == "Pod":
        status: Json = {"phase": "Pending"}
        with suppress(ValueError):  # a quantity that is none: validation names it, and refuses the pod
            status["qosClass"] = qos_class(raw)
        return raw | {"status": status}
    return raw


def changed_object(raw: Json, old: Json, resource: Resource, subresource: str) -> Json:
    """Return what an update may make of `old`: the server's metadata kept, and only the part that was written.

    A write to the object leaves its status, a write to `status` leaves all else. Generation rises when anything but
    metadata and status has changed.
    """
    kind = resource.kind
    metadata = {key: value for key, value in raw["metadata"].items() if key not in _SERVERS_OWN}
    metadata |= {key: old["metadata"][key] for key in (*_KEPT, "resourceVersion") if key in old["metadata"]}
    match subresource:
        case "status":
            result = _with_status(old, raw)
            if resource.source == "builtin":  # custom resources take nothing but the status
                metadata.pop("ownerReferences", None)
                result["metadata"] = metadata | _just(old["metadata"], "ownerReferences")
            return result
        case "finalize":
            spec = (old.get("spec") or {}) | {"finalizers": (raw.get("spec") or {}).get("finalizers") or []}
            return old | {"spec": spec}
    result = raw | {"metadata": metadata}
    if kind.has_status:
        result = _with_status(result, old)
    if kind.name == "Namespace" and resource.source == "builtin":
        result["spec"] = (result.get("spec") or {}) | _just(old.get("spec") or {}, "finalizers")
    return result


def with_generation(raw: Json, old: Json, resource: Resource) -> Json:
    """Return the object with its generation raised when what is wanted has changed."""
    if not _has_generation(resource) or _wanted(raw, resource) == _wanted(old, resource):
        return raw
    return raw | {"metadata": raw["metadata"] | {"generation": int(old["metadata"].get("generation", 0)) + 1}}


def metadata_findings(raw: Json, old: Json | None) -> list[Finding]:
    """Return what is wrong with owners and finalizers, which only the server itself looks into."""
    metadata = raw["metadata"]
    found: list[Finding] = []
    owners = metadata.get("ownerReferences") or []
    if not isinstance(owners, list) or not all(isinstance(owner, dict) for owner in owners):
        return [("metadata.ownerReferences", "must be a list of objects")]
    for index, owner in enumerate(owners):
        found += [
            (f"metadata.ownerReferences[{index}].{field}", "must not be empty")
            for field in ("apiVersion", "kind", "name", "uid")
            if not owner.get(field) or not isinstance(owner[field], str)
        ]
    if sum(owner.get("controller") is True for owner in owners) > 1:
        found.append(("metadata.ownerReferences", "Only one reference can have Controller set to true"))
    finalizers = metadata.get("finalizers") or []
    if not isinstance(finalizers, list) or not all(isinstance(finalizer, str) for finalizer in finalizers):
        return [*found, ("metadata.finalizers", "must be a list of texts")]
    if old is not None and old["metadata"].get("deletionTimestamp"):
        added = [name for name in finalizers if name not in (old["metadata"].get("finalizers") or ())]
        if added:
            sentence = f"no new finalizers can be added if the object is being deleted, found new finalizers {added!r}"
            found.append(("metadata.finalizers", f"Forbidden: {sentence}"))
    return found


# -- deletion ----------------------------------------------------------------------------------------------------------


def marked(old: Json, *, now: dt.datetime, grace_s: int | None, propagation: Propagation) -> Json | None:
    """Return the object as a deletion leaves it, or None when nothing keeps it and it goes at once.

    A second deletion may shorten the grace but never lengthen it. The result may equal `old`.
    """
    metadata = dict(old["metadata"])
    _set_finalizers(metadata, propagation)
    grace = _grace_s(old, grace_s)
    before = metadata.get("deletionGracePeriodSeconds")
    if not metadata.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = format_time(now + dt.timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace
        if metadata.get("generation"):
            metadata["generation"] += 1
    elif before is not None and grace < before:
        metadata["deletionTimestamp"] = format_time(now + dt.timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace
    result = old | {"metadata": metadata}
    if old.get("kind") == "Namespace" and old.get("apiVersion") == "v1":
        result["status"] = (old.get("status") or {}) | {"phase": "Terminating"}
    return None if is_gone(result) else result


def is_gone(raw: Json) -> bool:
    """Tell whether an object that is being deleted has nothing left that keeps it."""
    metadata = raw["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if raw.get("kind") == "Namespace" and raw.get("apiVersion") == "v1" and (raw.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _grace_s(raw: Json, asked_s: int | None) -> int:
    """How long a deletion waits: only for pods that a node has and that have not ended."""
    if raw.get("kind") != "Pod" or raw.get("apiVersion") != "v1":
        return 0
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in {"Succeeded", "Failed"}:
        return 0
    grace = asked_s if asked_s is not None else spec.get("terminationGracePeriodSeconds", 30)
    return int(grace) if grace >= 0 else 1


def _set_finalizers(metadata: Json, propagation: Propagation) -> None:
    """Keep the object until its dependants are dealt with, as the caller wants it; None leaves what there is."""
    if propagation is None:
        return
    others = [f for f in metadata.get("finalizers") or () if f not in {FOREGROUND_FINALIZER, ORPHAN_FINALIZER}]
    own = {"Foreground": [FOREGROUND_FINALIZER], "Orphan": [ORPHAN_FINALIZER], "Background": []}[propagation]
    if others or own:
        metadata["finalizers"] = others + own
    else:
        metadata.pop("finalizers", None)


def _has_generation(resource: Resource) -> bool:
    return resource.source != "builtin" or resource.kind.name in _WITH_GENERATION


def _wanted(raw: Json, resource: Resource) -> Json:
    observed = {"metadata", "status"} if resource.kind.has_status else {"metadata"}
    return {key: value for key, value in raw.items() if key not in observed}


def _with_status(raw: Json, source: Json) -> Json:
    result = {key: value for key, value in raw.items() if key != "status"}
    return result | _just(source, "status")


def _just(source: Json, key: str) -> dict[str, Any]:
    return {key: source[key]} if key in source else {}
