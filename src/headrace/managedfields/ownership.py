"""Whose fields are whose, write after write: the rules of one resource, or of one of its subresources.

A write that is no apply takes what it changes away from everybody else, and what it removes from everybody. Source:
Kubernetes "Server-Side Apply", "Field management"; apimachinery `pkg/util/managedfields`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.managedfields import entries as stored
from headrace.managedfields.compare import Comparison, compare
from headrace.managedfields.elements import Malformed
from headrace.managedfields.entries import Managed, Manager, Owned
from headrace.managedfields.fieldset import FieldSet, difference, union
from headrace.managedfields.reconcile import fitted
from headrace.managedfields.sharing import shared
from headrace.managedfields.types import Type
from headrace.spec.kind import Json

MAX_UPDATERS = 10
"""Entries of updates that an object keeps; the oldest beyond them become one."""
ANCIENT = "ancient-changes"
_SERVERS_OWN = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)
_UNOWNED = frozenset({"apiVersion", "kind"})


class Reset(msgspec.Struct, frozen=True):
    """Fields that a write to a resource leaves as they are, so that it owns none of them.

    Args:
        fields: of the object, such as `status` for the resource itself and `spec` for its status.
        metadata: fields of `metadata`.
    """

    fields: frozenset[str] = frozenset()
    metadata: frozenset[str] = frozenset()


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one resource in one version.

    Args:
        types: returns the type of whole objects in an apiVersion, None for a version that is not served.
        is_fixed: the types never change, as those of Kubernetes' own kinds.
    """

    version: str
    types: Callable[[str], Type | None]
    subresource: str = ""
    reset: Reset = Reset()
    is_fixed: bool = False

    def after_update(self, old: Json | None, new: Json, given: Any, manager: str, now: str) -> list[Json]:
        """Return the `managedFields` of an object that was made or changed by anything but an apply.

        Args:
            old: None for an object that is being made.
            given: `managedFields` as the request has them. What is no valid list is as if it was not there; an empty
                one, or one of an empty entry, forgets everybody.
            manager: who writes.
            now: metav1.Time; empty where a write is not dated.
        """
        before = ((old or {}).get("metadata") or {}).get("managedFields")
        managed = self._current(before, given)
        if not managed and old is not None:
            return []  # nobody is followed until somebody applies
        updater = Manager.updater(manager, self.version, self.subresource)
        return stored.written(capped(self.updated(old or {}, new, managed, updater, now)))

    def updated(self, old: Json, new: Json, managed: Managed, updater: Manager, now: str) -> Managed:
        """Return who owns what after `updater` has made `new` of `old`."""
        comparisons = self.comparisons(old, new)
        result = {}
        for manager, owned in self.fitting(managed).items():
            found = comparisons(owned.version)
            if found is None:
                continue
            fields = owned.fields if manager == updater else difference(owned.fields, found.changed)
            fields = difference(fields, found.removed)
            if fields:
                result[manager] = owned.with_fields(fields)
        found = comparisons(self.version)
        assert found is not None
        if found.changed:
            own = result.get(updater) or Owned(self.version, {})
            both = union(own.fields, found.changed)
            result[updater] = Owned(self.version, both if both is own.fields else shared(both), now or own.time)
        return result

    def comparisons(self, old: Json, new: Json) -> Callable[[str], Comparison | None]:
        """Return what finds what has changed, in terms of a version; None for one that is not served."""
        before, after = self._views(old, new)
        found: dict[str, Comparison | None] = {}

        def in_version(version: str) -> Comparison | None:
            if version not in found:
                type_ = self.types(version)
                found[version] = compare(before, after, type_) if type_ is not None else None
            return found[version]

        return in_version

    def fitting(self, managed: Managed) -> Managed:
        """Return who owns what in terms of today's types, which may have become atomic since it was written."""
        if self.is_fixed:
            return managed
        result = {}
        for manager, owned in managed.items():
            type_ = self.types(owned.version)
            fields = owned.fields if type_ is None else fitted(owned.fields, type_)
            result[manager] = owned.with_fields(fields)
        return result

    def own(self, fields: FieldSet) -> FieldSet:
        """Return what of a set anybody can own: nothing of the server's, and nothing that this resource leaves."""
        left = {name: inner for name, inner in fields.items() if name[2:] not in _UNOWNED | self.reset.fields}
        metadata = left.pop("f:metadata", None)
        if metadata:
            hidden = _SERVERS_OWN | self.reset.metadata
            kept = {name: inner for name, inner in metadata.items() if name != "." and name[2:] not in hidden}
            if kept:
                left["f:metadata"] = kept
        return left

    def _current(self, before: list[Json] | None, given: Any) -> Managed:
        if self.subresource or given is None or given is before or given == before:
            return stored.read(before)
        if stored.is_reset(given):
            return {}
        try:
            return stored.parse(given) or stored.read(before)
        except Malformed:
            return stored.read(before)

    def _views(self, old: Json, new: Json) -> tuple[Json, Json]:
        """Return both objects with what can be owned only."""
        hidden = _UNOWNED | self.reset.fields | {"metadata"}
        before = {name: value for name, value in old.items() if name not in hidden}
        after = {name: value for name, value in new.items() if name not in hidden}
        if "metadata" not in self.reset.fields:
            within = _SERVERS_OWN | self.reset.metadata
            before["metadata"], after["metadata"] = (
                {name: value for name, value in (raw.get("metadata") or {}).items() if name not in within}
                for raw in (old, new)
            )
        return before, after


def capped(managed: Managed) -> Managed:
    """Return who owns what with the oldest updates merged, so that no more than MAX_UPDATERS are left."""
    updaters = [manager for manager in managed if manager.operation == "Update"]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return managed
    result = dict(managed)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda updater: (managed[updater].time, _id(updater))):
        if not excess:
            break
        owned = managed[manager]
        if owned.version not in first:
            first[owned.version] = manager
            continue
        bucket = Manager(ANCIENT, "Update", owned.version)
        if bucket not in result:
            result[bucket] = result.pop(first[owned.version])
        if manager != bucket:
            fields = union(owned.fields, result[bucket].fields)
            del result[manager]
            result[bucket] = Owned(owned.version, fields, owned.time)
        excess -= 1
    return result


def _id(manager: Manager) -> tuple[str, ...]:
    return (manager.name, manager.operation, manager.version, manager.subresource)
