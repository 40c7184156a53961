"""Injects pods of others at CREATE. Pods that we make ourselves come injected for their pool already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.admission.choice import Choice, Offer, choose
from headrace.admission.destination import Alike, Destination, alike, destination, takes_now
from headrace.admission.occupancy import Occupancy
from headrace.admission.review import Review, Trusted
from headrace.cluster.cache import Cache
from headrace.data.injection import inject
from headrace.data.modes.catalogue import NATIVE
from headrace.data.modes.mode import Capabilities
from headrace.data.modes.native import follow, pin
from headrace.data.resolve import Resolver, claims_mounted
from headrace.data.verify.pod import mode_of
from headrace.errors import Denied, HeadraceError
from headrace.jobs.dataplane import DataPlane
from headrace.pools.capacity import NodeRoom, is_member, need, node_room, node_selector, renamed, room
from headrace.pools.price import card
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NODE, POD, POOL
from headrace.spec.names import (
    ENABLE_INJECTION_LABEL,
    NODE_POOL_LABEL,
    POOL_CHOICE_ANNOTATION,
    POOLS_ANNOTATION,
    SERVERLESS_INJECT_LABEL,
)

_ONCE = " This is decided once; when something has changed, delete the pod and make it anew."


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
        self._occupancy = Occupancy(cache)
        self._groups: tuple[Alike, ...] | None = None
        cache.subscribe(POOL, self._regroup)
        cache.subscribe(NODE, self._regroup)

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
        if self._groups is None:
            self._groups = alike(self._pools.list(), self._nodes.list())
        where = destination(pod, self._pools.list(), self._groups)
        injected = self._placed(pod, where, request.warnings)
        return injected if injected is not pod.raw else None

    def _regroup(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        """Have nodes grouped anew; a node's heartbeat changes nothing that matters here."""
        if old is None or new is None or old.labels != new.labels or old.spec != new.spec:
            self._groups = None

    def _placed(self, pod: Doc[Any], where: Destination, warnings: list[str]) -> Json:
        """A pod that could land anywhere stays native, unless it names where else it may go and there is no room."""
        if where.demands_sidecars or (where.strangers and not where.may_be_native):
            return self._foreign(pod, where)
        if not where.named:
            return self._native(pod, where)
        offers = {pool.name: self._offer(pod, pool) for pool in where.named}
        home = self._rooms(pod, [node for node in self._nodes.list() if node.name in where.home])
        choice = choose(need(pod.raw), home, [offer for offer, _ in offers.values()])
        if choice.pool or not choice.has_room:
            warnings.append(f"Pod {_name(pod)}: {choice.why}{'' if choice.has_room else _ONCE}")
        if not choice.pool:
            return _annotated(self._native(pod, where), choice)
        [pool] = [each for each in where.named if each.name == choice.pool]
        return _annotated(pin(offers[pool.name][1], Capabilities(native_nodes=_only([pool]))), choice)

    def _rooms(self, pod: Doc[Any], nodes: Sequence[Doc[Any]]) -> list[NodeRoom]:
        """Return the nodes' rooms; nothing is free on one that takes no such pod now."""
        used = self._occupancy.used(nodes)
        rooms = [(node, node_room(node, used)) for node in nodes]
        return [
            found if takes_now(pod.view.spec, node) else NodeRoom(found.name, found.total, {}) for node, found in rooms
        ]

    def _offer(self, pod: Doc[Any], pool: Doc[Any]) -> tuple[Offer, Json]:
        """Return what a pool would mean for the pod, and the pod as it would run there."""
        data = DataPlane(self._resolver, self._capabilities_of(pool))
        access = data.access(pod.namespace, dict.fromkeys(claims_mounted(pod.raw), True), pool)
        against = access.refusal or next((each.why_not_ready for each in access.data if not each.is_ready), "")
        injected = pod.raw
        if not against:
            try:
                injected = data.inject(pod.raw, pool)
            except HeadraceError as error:
                against = error.what
        members = [node for node in self._nodes.list() if is_member(pool, node)]
        needs = renamed(pool, need(injected))
        offer = Offer(
            pool=pool.name,
            needs=needs,
            room=room(pool, members, self._occupancy.used(members)),
            price_per_s=card(pool.spec).per_second(needs),
            against=against,
        )
        return offer, injected

    def _native(self, pod: Doc[Any], where: Destination) -> Json:
        """Keep it away from the nodes it could come to and where nothing would mount its claims."""
        expressions = tuple(_avoids(pool) for pool in where.strangers)
        plain = {
            claim for claim in claims_mounted(pod.raw) if self._resolver.is_datasets_own(Ref(pod.namespace, claim))
        }
        return pin(follow(pod.raw, plain), Capabilities(native_nodes=expressions))

    def _foreign(self, pod: Doc[Any], where: Destination) -> Json:
        asked = where.strangers or self._all_strangers(pod)
        pools = self._permitted(pod, asked)
        modes = {mode_of(pool) for pool in pools}
        if len(modes) != 1:
            raise Denied(_undecided(pod, pools), hint=_choose(pools))
        try:
            datasets = self._resolver.datasets_of(pod.raw)
            result = inject(pod.raw, datasets, modes.pop(), self._capabilities_of(pools[0]))
        except HeadraceError as error:
            what = f"Pod {_name(pod)} cannot be given its data: {error.what}"
            raise Denied(what, hint=error.hint, code=error.code) from error
        narrowed = where.may_be_native or len(pools) < len(asked)
        return pin(result, Capabilities(native_nodes=_only(pools))) if narrowed else result

    def _permitted(self, pod: Doc[Any], pools: Sequence[Doc[Any]]) -> tuple[Doc[Any], ...]:
        """Return the pools to which the owners of all its claims let it go; raises Denied where they leave none."""
        left = tuple(pools)
        for claim in claims_mounted(pod.raw):
            allowed = self._resolver.allowed_pools(Ref(pod.namespace, claim))
            before, left = left, tuple(pool for pool in left if allowed is None or pool.name in allowed)
            if before and not left:
                raise Denied(
                    f"Pod {_name(pod)} can only come to {', '.join(pool.name for pool in before)}, and claim {claim} may "
                    f"only go to these pools: {', '.join(sorted(allowed or ())) or 'none'}.",
                    hint=f"Send it there, or have the claim's owner change the annotation {POOLS_ANNOTATION}.",
                    code="PoolNotAllowed",
                )
        return left

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
    key = min(selector, key=lambda key: (key != NODE_POOL_LABEL, "kubernetes.io/" in key, key))
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
    return f"Name one in its nodeSelector, such as {NODE_POOL_LABEL}: {pools[0].name}."


def _annotated(pod: Json, choice: Choice) -> Json:
    """Leave the reason on the pod: whoever made it through a controller sees no warning."""
    meta = pod.get("metadata") or {}
    annotations = {**(meta.get("annotations") or {}), POOL_CHOICE_ANNOTATION: choice.why}
    return {**pod, "metadata": {**meta, "annotations": annotations}}


def _name(pod: Doc[Any]) -> str:
    return pod.name or f"{pod.meta.get('generateName', '')}…"
