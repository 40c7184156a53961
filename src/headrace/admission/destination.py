"""Into which pools a pod of somebody else's can come. Pure.

A pod's volumes cannot change once it exists, so this must be known before it is scheduled. It follows from what the
pod says: its node, its selector and affinity, its tolerations, Fluid's labels. A pod that could land anywhere stays
as it is, unless it names a pool without the storage's own driver by tolerating that pool's taint: then there is a choice
(`choice`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
        home: the nodes where that driver runs that it can come to.
    """

    pools: tuple[Doc[Any], ...]
    elsewhere: bool
    demands_sidecars: bool
    named: tuple[Doc[Any], ...] = ()
    home: tuple[Doc[Any], ...] = ()

    @property
    def strangers(self) -> tuple[Doc[Any], ...]:
        """The pools where the claim's own driver does not run."""
        return tuple(pool for pool in self.pools if mode_of(pool) != NATIVE)

    @property
    def may_be_native(self) -> bool:
        """It can come to nodes where the claim's own driver runs."""
        return self.elsewhere or len(self.strangers) < len(self.pools)


def destination(pod: Doc[Any], pools: Sequence[Doc[Any]], nodes: Sequence[Doc[Any]]) -> Destination:
    """Return where `pod` can come."""
    demands = any(pod.labels.get(key) == "true" for key in (SERVERLESS_INJECT_LABEL, FUSE_SIDECAR_INJECT_LABEL))
    spec: PodSpec = pod.view.spec
    allowed = [node for node in nodes if _can_come(spec, node)]
    found = {pool.name: pool for pool in pools for node in allowed if is_member(pool, node)}
    # A pool may have no node yet: a serverless one that has scaled to nothing, an autoscaled one.
    found |= {pool.name: pool for pool in pools if not spec.node_name and _selects(spec, pool)}
    elsewhere = any(not any(is_member(pool, node) for pool in pools) for node in allowed) or not found
    strange = [pool for pool in pools if mode_of(pool) != NATIVE]
    at_home = {node.name: node for node in nodes if not any(is_member(pool, node) for pool in strange)}
    common = {taint.key for node in at_home.values() for taint in _lasting_taints(node)}
    return Destination(
        pools=tuple(found[name] for name in sorted(found)),
        elsewhere=elsewhere,
        demands_sidecars=demands,
        named=tuple(pool for pool in strange if pool.name in found and _names(spec, pool, allowed, common)),
        home=tuple(node for node in allowed if node.name in at_home),
    )


def takes_now(spec: PodSpec, node: Doc[Any]) -> bool:
    """Tell whether a node takes such a pod at this moment, room aside."""
    view: Node = node.view
    return is_ready(node) and wants_node(spec, view) and untolerated(view.spec.taints, spec.tolerations) is None


def _can_come(spec: PodSpec, node: Doc[Any]) -> bool:
    if spec.node_name:
        return spec.node_name == node.name
    return wants_node(spec, node.view) and untolerated(_lasting_taints(node), spec.tolerations) is None


def _lasting_taints(node: Doc[Any]) -> list[Taint]:
    view: Node = node.view
    return [taint for taint in view.spec.taints if not taint.key.startswith(_PASSING)]


def _names(spec: PodSpec, pool: Doc[Any], allowed: Sequence[Doc[Any]], common: set[str]) -> bool:
    """Tell whether the pod tolerates, by its key, a taint that only such pools' nodes have.

    Who tolerates everything, as daemons do, has named nothing; nor has who tolerates what own nodes have too.
    """
    keys = {taint.key for node in allowed if is_member(pool, node) for taint in _lasting_taints(node)} - common
    return any(toleration.key in keys for toleration in spec.tolerations)


def _selects(spec: PodSpec, pool: Doc[Any]) -> bool:
    return bool(spec.node_selector) and matches_labels(node_selector(pool), spec.node_selector)
