"""CustomResourceDefinitions that are deleted: their objects go first, then the definition and with it the kind.

Source: apiextensions-apiserver `pkg/controller/finalizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster
from headrace.engine.builtin.actions import NOTHING, Delete, Patch, Performer, Plan
from headrace.engine.pipeline.definitions import CLEANUP_FINALIZER
from headrace.engine.pipeline.registry import Registry
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import CRD

_LOOK_AGAIN_S = 1.0
"""While the last objects wait for their finalizers; nobody watches a kind that is about to go."""


def plan(definition: Doc[Any], objects: Sequence[Doc[Any]]) -> Plan:
    """Decide about one definition; `objects` is everything of its kind, looked up only while it is being deleted."""
    if not definition.is_deleting or CLEANUP_FINALIZER not in definition.finalizers:
        return NOTHING
    if not objects:
        left = [finalizer for finalizer in definition.finalizers if finalizer != CLEANUP_FINALIZER]
        body = {"metadata": {"resourceVersion": definition.version, "finalizers": left or None}}
        return Plan((Patch(CRD, definition.ref, body),))
    going = tuple(Delete(doc.kind, doc.ref, doc.uid) for doc in objects if not doc.is_deleting)
    return Plan(going, again_after_s=_LOOK_AGAIN_S)


class DefinitionCleanup:
    """Reconciles definitions that are being deleted."""

    def __init__(self, cluster: Cluster, cache: Cache, registry: Registry, performer: Performer) -> None:
        self._cluster = cluster
        self._registry = registry
        self._performer = performer
        self._definitions = cache.reader(CRD)
        self.controller = Controller("definitions", cache, self._reconcile, workers=1).watches(CRD)

    async def _reconcile(self, ref: Ref) -> Result:
        definition = self._definitions.get(ref)
        if definition is None:
            return Result()
        objects = await self._objects(definition) if definition.is_deleting else []
        return await self._performer.perform(plan(definition, objects))

    async def _objects(self, definition: Doc[Any]) -> list[Doc[Any]]:
        for resource in self._registry:
            if resource.key == definition.name:
                return (await self._cluster.list(resource.kind, limit=0)).items
        return []
