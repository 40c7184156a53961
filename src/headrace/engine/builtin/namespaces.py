"""Namespaces: what each of them has from the beginning, and how one that is deleted is emptied and goes.

Source: Kubernetes `pkg/controller/namespace`, `serviceaccount` and `certificates/rootcacertpublisher`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster, Scope
from headrace.engine.builtin.actions import NOTHING, Action, Create, Delete, Patch, Performer, Plan
from headrace.engine.pipeline.registry import Registry
from headrace.spec.conditions import set_condition
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT
from headrace.spec.names import NAMESPACE_FINALIZER

ROOT_CERTIFICATE = "kube-root-ca.crt"
DEFAULT_ACCOUNT = "default"
_LOOK_AGAIN_S = 2.0
"""While a namespace empties: objects of kinds that this controller does not watch may be the last ones."""


class Observed(msgspec.Struct, frozen=True):
    """One namespace. `content` is everything in it and is only looked up while it is being deleted.

    `certificate` is the root certificate as published in it, None where it is not.
    """

    namespace: Doc[Any]
    has_account: bool
    certificate: str | None
    content: Sequence[Doc[Any]] = ()


def plan(observed: Observed, root_certificate: str, now: dt.datetime) -> Plan:
    """Decide about one namespace: equip it, empty it, or let it go."""
    if not observed.namespace.is_deleting:
        return Plan(tuple(_equip(observed, root_certificate)))
    if NAMESPACE_FINALIZER not in (observed.namespace.spec.get("finalizers") or ()):
        return NOTHING
    if not observed.content:
        left = [f for f in observed.namespace.spec["finalizers"] if f != NAMESPACE_FINALIZER]
        return Plan((Patch(NAMESPACE, observed.namespace.ref, {"spec": {"finalizers": left}}, "finalize"),))
    actions: list[Action] = [Delete(doc.kind, doc.ref, doc.uid) for doc in observed.content if not doc.is_deleting]
    return Plan((*actions, *_report(observed, now)), again_after_s=_LOOK_AGAIN_S)


def _equip(observed: Observed, root_certificate: str) -> Iterable[Action]:
    name = observed.namespace.name
    if not observed.has_account:
        yield Create(SERVICE_ACCOUNT, {"metadata": {"name": DEFAULT_ACCOUNT, "namespace": name}})
    if observed.certificate is None:
        metadata = {"name": ROOT_CERTIFICATE, "namespace": name}
        yield Create(CONFIG_MAP, {"metadata": metadata, "data": {"ca.crt": root_certificate}})
    elif observed.certificate != root_certificate:
        yield Patch(CONFIG_MAP, Ref(name, ROOT_CERTIFICATE), {"data": {"ca.crt": root_certificate}})


def _report(observed: Observed, now: dt.datetime) -> Iterable[Action]:
    """Say in the namespace's conditions what it still waits for, as `kubectl describe` shows it."""
    counts: dict[str, int] = {}
    finalizers: dict[str, int] = {}
    for doc in observed.content:
        counts[doc.kind.resource] = counts.get(doc.kind.resource, 0) + 1
        for finalizer in doc.finalizers:
            finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
    remaining = ", ".join(f"{resource} has {count} resource instances" for resource, count in sorted(counts.items()))
    holding = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    before = observed.namespace.status.get("conditions")
    conditions = set_condition(
        before,
        "NamespaceContentRemaining",
        "True",
        "SomeResourcesRemain",
        f"Some resources are remaining: {remaining}",
        now,
    )
    if holding:
        conditions = set_condition(
            conditions,
            "NamespaceFinalizersRemaining",
            "True",
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {holding}",
            now,
        )
    if conditions != before:
        yield Patch(NAMESPACE, observed.namespace.ref, {"status": {"conditions": conditions}}, "status")


class Namespaces:
    """Reconciles namespaces; a namespace that empties is looked at whenever something in it goes."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        registry: Registry,
        performer: Performer,
        clock: Clock,
        *,
        root_certificate: str,
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._performer = performer
        self._clock = clock
        self._root_certificate = root_certificate
        self._namespaces = cache.reader(NAMESPACE)
        self._accounts = cache.reader(SERVICE_ACCOUNT)
        self._config_maps = cache.reader(CONFIG_MAP)
        self.controller = Controller("namespaces", cache, self._reconcile, workers=2).watches(NAMESPACE)
        for resource in registry:
            if resource.kind.namespaced and resource.source != "crd":
                self.controller.watches(resource.kind, _namespace_of, when=self._matters)

    async def _reconcile(self, ref: Ref) -> Result:
        namespace = self._namespaces.get(ref)
        if namespace is None:
            return Result()
        published = self._config_maps.get(Ref(ref.name, ROOT_CERTIFICATE))
        observed = Observed(
            namespace=namespace,
            has_account=self._accounts.get(Ref(ref.name, DEFAULT_ACCOUNT)) is not None,
            certificate=None if published is None else (published.raw.get("data") or {}).get("ca.crt", ""),
            content=await self._content(ref.name) if namespace.is_deleting else (),
        )
        return await self._performer.perform(plan(observed, self._root_certificate, self._clock.now()))

    async def _content(self, namespace: str) -> list[Doc[Any]]:
        """Everything in a namespace, asked of the server itself: a cache could be a moment behind."""
        found: dict[str, list[Doc[Any]]] = {}
        for resource in self._registry:
            if resource.kind.namespaced and resource.key not in found:
                found[resource.key] = (await self._cluster.list(resource.kind, Scope(namespace), limit=0)).items
        return [doc for docs in found.values() for doc in docs]

    def _matters(self, old: Doc[Any] | None, new: Doc[Any] | None) -> bool:
        doc = new or old
        if doc is None:
            return False
        if doc.kind in {SERVICE_ACCOUNT, CONFIG_MAP} and doc.name in {DEFAULT_ACCOUNT, ROOT_CERTIFICATE}:
            return True
        namespace = self._namespaces.get(Ref("", doc.namespace))
        return new is None and namespace is not None and namespace.is_deleting


def _namespace_of(doc: Doc[Any]) -> Iterable[Ref]:
    return (Ref("", doc.namespace),)
