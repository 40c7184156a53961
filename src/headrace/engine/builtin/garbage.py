"""The garbage collector: follows every kind that is served, and who owns whom.

It learns the graph from the caches' changes and asks the server itself before it deletes anything, so an owner that a
cache does not know yet is never taken for one that is gone. Kinds of CustomResourceDefinitions are followed from the
moment they are served until they are no more, each in a cache of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Group, Result
from headrace.cluster.protocol import Cluster
from headrace.engine.builtin.actions import Performer
from headrace.engine.builtin.garbage_plan import Dependant, Observed, OwnerState, plan
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.errors import NotFound
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import CRD, EVENT
from headrace.spec.names import FOREGROUND_FINALIZER, ORPHAN_FINALIZER

_UNOWNED = frozenset({EVENT.resource})


class GarbageCollector:
    """Deletes what has no owner left, in the background, in the foreground, or not at all (orphans)."""

    def __init__(self, cluster: Cluster, cache: Cache, registry: Registry, performer: Performer) -> None:
        self._cluster = cluster
        self._cache = cache
        self._registry = registry
        self._performer = performer
        self._dependants: dict[str, set[tuple[str, Ref]]] = {}
        self._controllers: dict[str, Controller] = {}
        self._followed: dict[str, tuple[Kind[Any], anyio.CancelScope]] = {}
        self._changed = anyio.Event()
        for resource in self._builtin():
            self._follow(resource.kind, cache)
        cache.subscribe(CRD, lambda _old, _new: self._changed.set())

    async def run(self) -> None:
        """Collect until cancelled."""
        async with anyio.create_task_group() as tasks:
            for controller in list(self._controllers.values()):
                tasks.start_soon(controller.run)
            while True:
                self._changed = anyio.Event()
                self._follow_definitions(tasks)
                await self._changed.wait()

    def dependants(self, uid: str) -> set[tuple[str, Ref]]:
        """Return `(resource, ref)` of everything that names `uid` as an owner."""
        return self._dependants.get(uid, set())

    def _builtin(self) -> Iterator[Resource]:
        return (each for each in self._registry if each.source != "crd" and each.key not in _UNOWNED)

    def _follow_definitions(self, tasks: TaskGroup) -> None:
        """Begin with kinds that are newly defined and end with those that are no more."""
        served = {resource.kind: resource for resource in self._registry if resource.source == "crd"}
        for key, (kind, scope) in list(self._followed.items()):
            if kind not in served:
                del self._followed[key], self._controllers[key]
                scope.cancel()
        for kind, resource in served.items():
            if resource.key not in self._followed:
                scope = anyio.CancelScope()
                self._followed[resource.key] = (kind, scope)
                tasks.start_soon(self._run_defined, kind, scope)

    async def _run_defined(self, kind: Kind[Any], scope: anyio.CancelScope) -> None:
        with scope:
            cache = Cache(self._cluster)
            await Group(cache, [self._follow(kind, cache)]).run()

    def _follow(self, kind: Kind[Any], cache: Cache) -> Controller:
        controller = Controller(f"garbage-{kind.plural}", cache, partial(self._reconcile, kind), workers=1)
        self._controllers[kind.resource] = controller
        cache.subscribe(kind, partial(self._on_change, kind))
        return controller

    def _on_change(self, kind: Kind[Any], old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        before, after = _owner_uids(old), _owner_uids(new)
        doc = new or old
        assert doc is not None
        place = (kind.resource, doc.ref)
        for uid in before - after:
            self._forget(uid, place)
        for uid in after:
            self._dependants.setdefault(uid, set()).add(place)
        if new is None or (old is not None and old.uid != new.uid):
            self._enqueue_dependants((old or doc).uid)
        if (after and before != after) or _is_waiting(new):
            self._enqueue(place)
        if _is_waiting(new):
            self._enqueue_dependants(doc.uid)
        if before and before != after:  # an owner may have waited for this one
            self._enqueue_owners(old or doc)

    def _forget(self, uid: str, place: tuple[str, Ref]) -> None:
        known = self._dependants.get(uid)
        if known is not None:
            known.discard(place)
            if not known:
                del self._dependants[uid]

    def _enqueue_dependants(self, uid: str) -> None:
        for place in list(self._dependants.get(uid, ())):
            self._enqueue(place)

    def _enqueue_owners(self, dependant: Doc[Any]) -> None:
        for owner in dependant.owners:
            resource = self._owner_resource(owner)
            if resource is not None:
                namespace = dependant.namespace if resource.kind.namespaced else ""
                self._enqueue((resource.key, Ref(namespace, owner["name"])))

    def _enqueue(self, place: tuple[str, Ref]) -> None:
        controller = self._controllers.get(place[0])
        if controller is not None:
            controller.enqueue(place[1])

    async def _reconcile(self, kind: Kind[Any], ref: Ref) -> Result:
        try:
            doc = await self._cluster.get(kind, ref)
        except NotFound:
            return Result()
        if not doc.owners and not _is_waiting(doc):
            return Result()
        owners = [await self._owner_state(doc, owner) for owner in doc.owners]
        dependants = [each for place in sorted(self.dependants(doc.uid)) async for each in self._dependant(doc, place)]
        return await self._performer.perform(plan(Observed(doc, owners, dependants)))

    async def _owner_state(self, doc: Doc[Any], owner: Json) -> OwnerState:
        resource = self._owner_resource(owner)
        if resource is None or (resource.kind.namespaced and not doc.namespace):
            return "unknown"
        namespace = doc.namespace if resource.kind.namespaced else ""
        try:
            found = await self._cluster.get(resource.kind, Ref(namespace, owner["name"]))
        except NotFound:
            return "absent"
        if found.uid != owner["uid"]:
            return "absent"
        return "waiting" if found.is_deleting and FOREGROUND_FINALIZER in found.finalizers else "present"

    def _owner_resource(self, owner: Json) -> Resource | None:
        group, _, version = owner["apiVersion"].rpartition("/")
        return self._registry.named(group, owner["kind"], version) or self._registry.named(group, owner["kind"])

    async def _dependant(self, owner: Doc[Any], place: tuple[str, Ref]) -> Any:
        resource = next((each for each in self._registry if each.key == place[0]), None)
        if resource is None:
            return
        try:
            doc = await self._cluster.get(resource.kind, place[1])
        except NotFound:
            return
        references = [each for each in doc.owners if each.get("uid") == owner.uid]
        if references:
            blocks = any(each.get("blockOwnerDeletion") for each in references)
            yield Dependant(resource.kind, doc.ref, doc.owners, doc.version, blocks)


def _owner_uids(doc: Doc[Any] | None) -> frozenset[str]:
    return frozenset() if doc is None else frozenset(owner.get("uid", "") for owner in doc.owners)


def _is_waiting(doc: Doc[Any] | None) -> bool:
    """Tell whether an object's deletion is the garbage collector's turn."""
    if doc is None or not doc.is_deleting:
        return False
    return FOREGROUND_FINALIZER in doc.finalizers or ORPHAN_FINALIZER in doc.finalizers
