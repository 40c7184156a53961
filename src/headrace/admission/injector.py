"""Injects pods of others at CREATE. Pods that we make ourselves come injected for their pool already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.admission.destination import Destination, destination
from headrace.admission.review import Review, Trusted
from headrace.cluster.cache import Cache
from headrace.data.injection import inject
from headrace.data.modes.catalogue import NATIVE
from headrace.data.modes.mode import Capabilities
from headrace.data.modes.native import pin
from headrace.data.resolve import Resolver, claims_mounted
from headrace.data.verify.pod import mode_of
from headrace.errors import Denied, HeadraceError
from headrace.pools.capacity import node_selector
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NODE, POD, POOL
from headrace.spec.names import ENABLE_INJECTION_LABEL, POOL_LABEL, SERVERLESS_INJECT_LABEL


class PodInjector:
    """Turns dataset claims of a pod into what the nodes it can come to are able to mount.

    Args:
        capabilities_of: what a pool's nodes can do.
        trusted: users whose pods are left alone.
    """

    def __init__(
        self, cache: Cache, resolver: Resolver, capabilities_of: Callable[[Doc[Any]], Capabilities], trusted: Trusted
    ) -> None:
        self._resolver = resolver
        self._capabilities_of = capabilities_of
        self._trusted = trusted
        self._pools = cache.reader(POOL)
        self._nodes = cache.reader(NODE)

    async def admit(self, request: Review) -> Json | None:
        """Return the injected pod, or None when there is nothing to do. Raises Denied with the cure."""
        if request.kind.name != POD.name or request.operation != "CREATE" or request.subresource:
            return None
        if request.object is None or request.user.name in self._trusted:
            return None
        pod = Doc(POD, request.object)
        if pod.labels.get(ENABLE_INJECTION_LABEL) == "false":
            return None
        shared = [claim for claim in claims_mounted(pod.raw) if self._resolver.is_shared(Ref(pod.namespace, claim))]
        if not shared:
            return None
        where = destination(pod, self._pools.list(), self._nodes.list())
        injected = self._native(pod, where) if self._stays_native(where) else self._foreign(pod, where)
        return injected if injected is not pod.raw else None

    @staticmethod
    def _stays_native(where: Destination) -> bool:
        """A pod that could land anywhere stays native, and so does one whose pools would need different pods."""
        if where.demands_sidecars:
            return False
        return where.may_be_native or not where.strangers

    def _native(self, pod: Doc[Any], where: Destination) -> Json:
        """Keep it away from the nodes it could come to and where nothing would mount its claims."""
        expressions = tuple(_avoids(pool) for pool in where.strangers)
        return pin(pod.raw, Capabilities(native_nodes=expressions))

    def _foreign(self, pod: Doc[Any], where: Destination) -> Json:
        pools = where.strangers or self._all_strangers(pod)
        modes = {mode_of(pool) for pool in pools}
        if len(modes) != 1:
            raise Denied(_undecided(pod, pools), hint=_choose(pools))
        try:
            datasets = self._resolver.datasets_of(pod.raw)
            result = inject(pod.raw, datasets, modes.pop(), self._capabilities_of(pools[0]))
        except HeadraceError as error:
            what = f"Pod {_name(pod)} cannot be given its data: {error.what}"
            raise Denied(what, hint=error.hint, code=error.code) from error
        return pin(result, Capabilities(native_nodes=_only(pools))) if where.may_be_native else result

    def _all_strangers(self, pod: Doc[Any]) -> tuple[Doc[Any], ...]:
        """Return the pools a pod that asks for sidecars is sent to, when none of their nodes is there yet."""
        if pod.spec.get("nodeName") or pod.spec.get("nodeSelector"):
            raise Denied(
                f"Pod {_name(pod)} asks for dataset sidecars by label, and its node selection leads to no pool whose "
                "pods need any.",
                hint="Remove the label, or select a pool without the storage's own driver.",
            )
        return tuple(pool for pool in self._pools.list() if mode_of(pool) != NATIVE)


def _avoids(pool: Doc[Any]) -> Json:
    """Return a node expression that no node of the pool meets. One label of several is enough to keep away."""
    key, value = _telling_label(pool)
    return {"key": key, "operator": "NotIn", "values": [value]}


def _only(pools: Sequence[Doc[Any]]) -> tuple[Json, ...]:
    """Return node expressions that only nodes of these pools meet; several pools must share the label's key."""
    labels = [_telling_label(pool) for pool in pools]
    keys = {key for key, _ in labels}
    if len(keys) > 1:
        raise Denied(
            f"The pools {', '.join(pool.name for pool in pools)} are told by different labels, so one pod cannot ask for "
            "any of them.",
            hint="Name one pool in the pod's nodeSelector.",
        )
    return ({"key": keys.pop(), "operator": "In", "values": sorted(value for _, value in labels)},)


def _telling_label(pool: Doc[Any]) -> tuple[str, str]:
    """Return the label that tells a pool's nodes from others; Kubernetes' own, such as the system, tell least."""
    selector = node_selector(pool)
    key = min(selector, key=lambda key: (key != POOL_LABEL, "kubernetes.io/" in key, key))
    return key, selector[key]


def _undecided(pod: Doc[Any], pools: Sequence[Doc[Any]]) -> str:
    if not pools:
        return (
            f"Pod {_name(pod)} asks for dataset sidecars by the label {SERVERLESS_INJECT_LABEL}, and there is no pool "
            "whose pods need any."
        )
    said = ", ".join(f"{pool.name} ({mode_of(pool)})" for pool in pools)
    return f"Pod {_name(pod)} could come into pools that mount datasets in different ways: {said}."


def _choose(pools: Sequence[Doc[Any]]) -> str:
    if not pools:
        return "Remove the label."
    return f"Name one in its nodeSelector, such as {POOL_LABEL}: {pools[0].name}."


def _name(pod: Doc[Any]) -> str:
    return pod.name or f"{pod.meta.get('generateName', '')}…"
