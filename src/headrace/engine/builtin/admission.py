"""The admission that every Kubernetes API server has switched on, for what the builtin controllers rely on.

Source: Kubernetes `plugin/pkg/admission/{storage,priority,defaulttolerationseconds}`,
`persistentvolume/resize`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from headrace.engine.builtin.binding_plan import default_class
from headrace.engine.pipeline.request import AdmissionRequest, Admitter
from headrace.engine.store.store import Key, Store
from headrace.errors import Denied
from headrace.spec.core.scheduling import Taint, Toleration
from headrace.spec.kind import Doc, Json, Kind
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, PRIORITY_CLASS, STORAGE_CLASS
from headrace.spec.names import (
    PV_PROTECTION_FINALIZER,
    PVC_PROTECTION_FINALIZER,
    TAINT_NOT_READY,
    TAINT_UNREACHABLE,
)
from headrace.spec.selectors import tolerates
from headrace.units import parse_quantity

TOLERATION_S = 300
"""How long a pod that says nothing else stays on a node that is not ready or cannot be reached."""


class StorageProtection:
    """Puts the finalizers on claims and volumes that keep them while they are used."""

    async def admit(self, request: AdmissionRequest) -> Json | None:
        """Return the object with its finalizer, on CREATE."""
        names = {PERSISTENT_VOLUME_CLAIM: PVC_PROTECTION_FINALIZER, PERSISTENT_VOLUME: PV_PROTECTION_FINALIZER}
        name = names.get(request.kind)
        if request.operation != "CREATE" or name is None or request.object is None:
            return None
        finalizers = request.object["metadata"].get("finalizers") or []
        if name in finalizers:
            return None
        return request.object | {"metadata": request.object["metadata"] | {"finalizers": [*finalizers, name]}}


class DefaultStorageClass:
    """Gives claims that name no class the default one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, request: AdmissionRequest) -> Json | None:
        """Return the claim with its class, on CREATE."""
        if request.operation != "CREATE" or request.kind is not PERSISTENT_VOLUME_CLAIM or request.object is None:
            return None
        spec = request.object.get("spec") or {}
        name = default_class(_all(self._store, STORAGE_CLASS))
        if spec.get("storageClassName") is not None or not name:
            return None
        return request.object | {"spec": spec | {"storageClassName": name}}


class ClaimGrowth:
    """Refuses to let a claim grow where nothing would make its volume grow."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, request: AdmissionRequest) -> Json | None:
        """Change nothing; raises Denied for an UPDATE that asks for more, unless the class allows it."""
        if request.operation != "UPDATE" or request.kind is not PERSISTENT_VOLUME_CLAIM or request.subresource:
            return None
        new, old = _requested(request.object), _requested(request.old)
        if new <= old:
            return None
        name = ((request.old or {}).get("spec") or {}).get("storageClassName") or ""
        found = self._store.get(Key(STORAGE_CLASS.resource, "", name))
        if found is None or not found.raw.get("allowVolumeExpansion"):
            raise Denied(
                f'persistentvolumeclaims "{request.name}" is forbidden: only dynamically provisioned pvc can be resized '
                "and the storageclass that provisions the pvc must support resize",
                hint="Make a larger claim and copy the data.",
            )
        return None


class PodPriority:
    """Resolves a pod's priority class to the number that the scheduler orders by."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, request: AdmissionRequest) -> Json | None:
        """Return the pod with its priority, on CREATE; raises Denied when there is no such class."""
        if request.operation != "CREATE" or request.kind is not POD or request.object is None or request.subresource:
            return None
        spec = request.object["spec"]
        found = self._class(spec.get("priorityClassName") or "", request.name)
        resolved: Json = {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}
        if found is not None:
            resolved = {
                "priorityClassName": found["metadata"]["name"],
                "priority": found.get("value", 0),
                "preemptionPolicy": found.get("preemptionPolicy", "PreemptLowerPriority"),
            }
        return request.object | {"spec": spec | resolved}

    def _class(self, name: str, pod: str) -> Json | None:
        if name:
            stored = self._store.get(Key(PRIORITY_CLASS.resource, "", name))
            if stored is None:
                raise Denied(
                    f'pods "{pod}" is forbidden: no PriorityClass with name {name} was found',
                    hint="See `kubectl get priorityclasses`.",
                )
            return stored.raw
        marked = [doc.raw for doc in _all(self._store, PRIORITY_CLASS) if doc.raw.get("globalDefault")]
        return min(marked, key=lambda raw: int(raw.get("value", 0)), default=None)


class DefaultTolerations:
    """Lets pods that say nothing stay five minutes on a node that is not ready or cannot be reached."""

    async def admit(self, request: AdmissionRequest) -> Json | None:
        """Return the pod with the tolerations it lacks, on CREATE."""
        if request.operation != "CREATE" or request.kind is not POD or request.object is None or request.subresource:
            return None
        spec = request.object["spec"]
        given: list[Json] = spec.get("tolerations") or []
        missing = [key for key in (TAINT_NOT_READY, TAINT_UNREACHABLE) if not _tolerated(given, key)]
        if not missing:
            return None
        added = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_S}
            for key in missing
        ]
        return request.object | {"spec": spec | {"tolerations": [*given, *added]}}


def admitters(store: Store) -> list[Admitter]:
    """Return the builtin admission, in its order; a server's own comes after it."""
    return [
        DefaultStorageClass(store),
        StorageProtection(),
        ClaimGrowth(store),
        PodPriority(store),
        DefaultTolerations(),
    ]


def _requested(claim: Json | None) -> Decimal:
    resources = ((claim or {}).get("spec") or {}).get("resources") or {}
    try:
        return parse_quantity((resources.get("requests") or {}).get("storage", "0"))
    except ValueError:  # validation, which comes next, says so
        return Decimal(0)


def _tolerated(given: Iterable[Json], key: str) -> bool:
    taint = Taint(key=key, effect="NoExecute")
    return any(
        tolerates(
            Toleration(
                key=each.get("key", ""),
                operator=each.get("operator", "Equal"),
                value=each.get("value", ""),
                effect=each.get("effect", ""),
            ),
            taint,
        )
        for each in given
    )


def _all(store: Store, kind: Kind[Any]) -> list[Doc[Any]]:
    return [Doc(kind, raw) for raw in store.page(kind.resource).items]
