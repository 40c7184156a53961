"""Lets a deleted project go, last of all the controllers' own right to work in it.

The namespace controller deletes everything in a namespace at once, our RoleBinding too; without it nobody could take our
finalizers off the rest, and the namespace would be Terminating for ever. So the binding has a finalizer, and a binding
that is being deleted still grants. It is taken away when nothing of ours waits any more.
"""

from __future__ import annotations

import contextlib
from typing import Any

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster, JsonPatch
from headrace.errors import NotFound
from headrace.install.kinds import ROLE_BINDING
from headrace.install.rbac import PROJECT_FINALIZER, PROJECT_ROLE
from headrace.spec.kind import Kind, Ref
from headrace.spec.kinds import DATASET, NAMESPACE, POD, THIN_RUNTIME
from headrace.spec.names import (
    DATASET_FINALIZER,
    METERED_FINALIZER,
    PROJECT_LABEL,
    THIN_RUNTIME_FINALIZER,
    WRAPPER_FINALIZER,
)

_HELD: tuple[Kind[Any], ...] = (POD, DATASET, THIN_RUNTIME)
_OURS = {DATASET_FINALIZER, THIN_RUNTIME_FINALIZER, METERED_FINALIZER, WRAPPER_FINALIZER}
_LOOK_EVERY_S = 1.0


class Projects:
    """Reconciles namespaces that are projects."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._namespaces = cache.reader(NAMESPACE)
        self._held = [cache.reader(kind) for kind in _HELD]

    def controller(self) -> Controller:
        """Return the controller, which belongs into a group with the same cache."""
        return Controller("projects", self._cache, self.reconcile, workers=1).watches(NAMESPACE)

    async def reconcile(self, ref: Ref) -> Result:
        """Release the right when the project is going and nothing in it waits for us."""
        namespace = self._namespaces.get(ref)
        if namespace is None or not namespace.is_deleting or PROJECT_LABEL not in namespace.labels:
            return Result()
        if self._is_held(ref.name):
            return Result(again_after_s=_LOOK_EVERY_S)
        await self._release(Ref(ref.name, PROJECT_ROLE))
        return Result()

    def _is_held(self, namespace: str) -> bool:
        return any(_OURS & {*doc.finalizers} for reader in self._held for doc in reader.list(namespace))

    async def _release(self, ref: Ref) -> None:
        with contextlib.suppress(NotFound):
            binding = await self._cluster.get(ROLE_BINDING, ref)
            if PROJECT_FINALIZER not in binding.finalizers:
                return
            path = f"/metadata/finalizers/{binding.finalizers.index(PROJECT_FINALIZER)}"
            operations = [{"op": "test", "path": path, "value": PROJECT_FINALIZER}, {"op": "remove", "path": path}]
            await self._cluster.patch(ROLE_BINDING, ref, JsonPatch(operations))
