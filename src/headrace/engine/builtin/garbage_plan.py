"""Who goes because its owners went: the decision for one object. Pure.

Source: Kubernetes `pkg/controller/garbagecollector` (attemptToDeleteItem, processDeletingDependentsItem,
attemptToOrphan).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headrace.cluster.protocol import Propagation
from headrace.engine.builtin.actions import NOTHING, Action, Delete, Patch, Plan
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.names import FOREGROUND_FINALIZER, ORPHAN_FINALIZER

OwnerState = Literal["present", "absent", "waiting", "unknown"]
"""waiting: being deleted in the foreground, so it waits for its dependants; unknown: of a kind nobody serves."""


class Dependant(msgspec.Struct, frozen=True):
    """An object that names the observed one as an owner. `blocks`: its owner may not go before it."""

    kind: Kind[Any]
    ref: Ref
    owners: Sequence[Json]
    version: str
    blocks: bool


class Observed(msgspec.Struct, frozen=True):
    """One object, what became of each of its owners, and its dependants."""

    doc: Doc[Any]
    owners: Sequence[OwnerState]
    dependants: Sequence[Dependant]


def plan(observed: Observed) -> Plan:
    """Decide about one object: keep it, cut references that mean nothing any more, or delete it."""
    doc = observed.doc
    if doc.is_deleting:
        if ORPHAN_FINALIZER in doc.finalizers:
            return _orphan(observed)
        if FOREGROUND_FINALIZER in doc.finalizers:
            return _wait_for_dependants(observed)
        return NOTHING
    if not doc.owners:
        return NOTHING
    states = list(zip(doc.owners, observed.owners, strict=True))
    solid = [owner for owner, state in states if state in {"present", "unknown"}]
    if len(solid) == len(states):
        return NOTHING
    if solid:
        return Plan((_set_owners(doc.kind, doc.ref, solid, doc.version),))
    is_awaited = any(state == "waiting" for _, state in states)
    propagation: Propagation = "Background"
    if ORPHAN_FINALIZER in doc.finalizers:
        propagation = "Orphan"
    elif FOREGROUND_FINALIZER in doc.finalizers or (is_awaited and observed.dependants):
        propagation = "Foreground"
    return Plan((Delete(doc.kind, doc.ref, doc.uid, version=doc.version, propagation=propagation),))


def _orphan(observed: Observed) -> Plan:
    """Cut the dependants loose, then let the owner go."""
    doc = observed.doc
    actions: list[Action] = [
        _set_owners(each.kind, each.ref, [owner for owner in each.owners if owner.get("uid") != doc.uid], each.version)
        for each in observed.dependants
    ]
    return Plan((*actions, _without_finalizer(doc, ORPHAN_FINALIZER)))


def _wait_for_dependants(observed: Observed) -> Plan:
    """The dependants are reconciled themselves, as their owner waits; it goes when none that blocks is left."""
    if any(each.blocks for each in observed.dependants):
        return NOTHING
    return Plan((_without_finalizer(observed.doc, FOREGROUND_FINALIZER),))


def _set_owners(kind: Kind[Any], ref: Ref, owners: list[Json], version: str) -> Patch:
    return Patch(kind, ref, {"metadata": {"resourceVersion": version, "ownerReferences": owners or None}})


def _without_finalizer(doc: Doc[Any], name: str) -> Patch:
    left = [finalizer for finalizer in doc.finalizers if finalizer != name]
    return Patch(doc.kind, doc.ref, {"metadata": {"resourceVersion": doc.version, "finalizers": left or None}})
