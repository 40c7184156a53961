"""Into which pools a pod of somebody else's can come. Pure.

A pod's volumes cannot change once it exists, so this must be known before it is scheduled. It follows from what the
pod says: its node, its selector and affinity, its tolerations, Fluid's labels. A pod that could land anywhere stays
as it is, unless it names a pool without the storage's own driver by tolerating that pool's taint: then there is a choice
(`choice`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.data.modes.catalogue import NATIVE
from headrace.data.verify.pod import mode_of
from headrace.pools.capacity import is_member, is_ready, node_selector
from headrace.spec.core.node import Node
from headrace.spec.core.pod import PodSpec
from headrace.spec.core.scheduling import Taint
from headrace.spec.kind import Doc
from headrace.spec.names import FUSE_SIDECAR_INJECT_LABEL, SERVERLESS_INJECT_LABEL
from headrace.spec.selectors import matches_labels, untolerated, wants_node

_PASSING = "node.kubernetes.io/"
"""Taints of a node that is not ready or under pressure: where a pod can come does not follow from the moment."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a pod may come.

    Args:
        pools: the pools it can come into.
        elsewhere: it can come to nodes of no pool too.
        demands_sidecars: it asks for sidecars by Fluid's label.
        named: those of the pools where the claim's own driver does not run that it names by a toleration.
        home: the names of the nodes where that driver runs that it can come to; looked up only where it names a pool.
    """

    pools: tuple[Doc[Any], ...]
    elsewhere: bool
    demands_sidecars: bool
    named: tuple[Doc[Any], ...] = ()
    home: frozenset[str] = frozenset()

    @property
    def strangers(self) -> tuple[Doc[Any], ...]:
        """The pools where the claim's own driver does not run."""
        return tuple(pool for pool in self.pools if mode_of(pool) != NATIVE)

    @property
    def may_be_native(self) -> bool:
        """It can come to nodes where the claim's own driver runs."""
        return self.elsewhere or len(self.strangers) < len(self.pools)


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Nodes that are in the same pools and keep the same pods away. Most nodes of a cluster are alike."""

    pools: tuple[Doc[Any], ...]
    taints: tuple[Taint, ...]
    nodes: tuple[Node, ...]

    def admits(self, spec: PodSpec) -> bool:
        """Tell whether a pod can come to one of them."""
        if spec.node_name:
            return any(spec.node_name == node.metadata.name for node in self.nodes)
        return untolerated(self.taints, spec.tolerations) is None and any(wants_node(spec, n) for n in self.nodes)

    def admitted(self, spec: PodSpec) -> Iterator[str]:
        """Yield the names of those that a pod which is admitted can come to."""
        for node in self.nodes:
            if spec.node_name == node.metadata.name or (not spec.node_name and wants_node(spec, node)):
                yield node.metadata.name

    @property
    def is_home(self) -> bool:
        """Whether the storage's own driver runs there."""
        return all(mode_of(pool) == NATIVE for pool in self.pools)


def alike(pools: Sequence[Doc[Any]], nodes: Sequence[Doc[Any]]) -> tuple[Alike, ...]:
    """Return the nodes in groups, so that a pod which selects none is compared with one of each."""
    groups: dict[tuple[tuple[str, ...], tuple[Taint, ...]], list[Node]] = {}
    for node in nodes:
        view: Node = node.view
        taints = tuple(taint for taint in view.spec.taints if not taint.key.startswith(_PASSING))
        key = tuple(pool.name for pool in pools if is_member(pool, node)), taints
        groups.setdefault(key, []).append(view)
    named = {pool.name: pool for pool in pools}
    return tuple(
        Alike(pools=tuple(named[name] for name in names), taints=taints, nodes=tuple(members))
        for (names, taints), members in groups.items()
    )


def destination(pod: Doc[Any], pools: Sequence[Doc[Any]], groups: Sequence[Alike]) -> Destination:
    """Return where `pod` can come. `groups` are all nodes there are, as `alike` returns them."""
    demands = any(pod.labels.get(key) == "true" for key in (SERVERLESS_INJECT_LABEL, FUSE_SIDECAR_INJECT_LABEL))
    spec: PodSpec = pod.view.spec
    allowed = [group for group in groups if group.admits(spec)]
    found = {pool.name: pool for group in allowed for pool in group.pools}
    # A pool may have no node yet: a serverless one that has scaled to nothing, an autoscaled one.
    found |= {pool.name: pool for pool in pools if not spec.node_name and _selects(spec, pool)}
    elsewhere = any(not group.pools for group in allowed) or not found
    named = _named(spec, pools, groups, allowed)
    return Destination(
        pools=tuple(found[name] for name in sorted(found)),
        elsewhere=elsewhere,
        demands_sidecars=demands,
        named=tuple(named),
        home=frozenset(node for group in allowed if named and group.is_home for node in group.admitted(spec)),
    )


def _named(
    spec: PodSpec, pools: Sequence[Doc[Any]], groups: Sequence[Alike], allowed: Sequence[Alike]
) -> list[Doc[Any]]:
    """Return the pools of which the pod tolerates, by its key, a taint that only such pools' nodes have.

    Who tolerates everything, as daemons do, has named nothing; nor has who tolerates what own nodes have too.
    """
    tolerated = {toleration.key for toleration in spec.tolerations if toleration.key}
    if not tolerated:
        return []
    common = {taint.key for group in groups if group.is_home for taint in group.taints}
    own = {
        pool.name
        for group in allowed
        if tolerated & ({taint.key for taint in group.taints} - common)
        for pool in group.pools
    }
    return [pool for pool in pools if pool.name in own and mode_of(pool) != NATIVE]


def takes_now(spec: PodSpec, node: Doc[Any]) -> bool:
    """Tell whether a node takes such a pod at this moment, room aside."""
    view: Node = node.view
    return is_ready(node) and wants_node(spec, view) and untolerated(view.spec.taints, spec.tolerations) is None


def _selects(spec: PodSpec, pool: Doc[Any]) -> bool:
    return bool(spec.node_selector) and matches_labels(node_selector(pool), spec.node_selector)
