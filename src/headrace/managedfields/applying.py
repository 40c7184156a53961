"""Server-side apply: an object becomes what its appliers' configurations say together.

Source: Kubernetes "Server-Side Apply"; sigs.k8s.io/structured-merge-diff v6, `merge.Updater.Apply`; apimachinery
`pkg/util/managedfields`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from headrace.errors import Conflict
from headrace.managedfields import entries as stored
from headrace.managedfields.checking import findings
from headrace.managedfields.compare import compare
from headrace.managedfields.entries import Managed, Manager, Owned
from headrace.managedfields.fieldset import (
    FieldSet,
    difference,
    has,
    intersection,
    paths,
    shown_path,
    union,
)
from headrace.managedfields.merge import merged, removed
from headrace.managedfields.naming import leaves, with_named_fields
from headrace.managedfields.ownership import Ownership
from headrace.managedfields.types import Type
from headrace.spec.kind import Json

BEFORE_FIRST_APPLY = "before-first-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = "kubectl"
_MAX_ANNOTATIONS_BYTES = 256 * 1024


class ApplyConflict(Conflict):
    """Fields of the configuration belong to others. Leave them out, take their values over, or force.

    Args:
        owned: each field's owner and its path.
    """

    def __init__(self, owned: list[tuple[Manager, tuple[str, ...]]]) -> None:
        self.owned = owned
        self.causes = tuple((shown_path(path), f"conflict with {manager}") for manager, path in owned)
        if len(owned) == 1:
            what = f"1 conflict: conflict with {owned[0][0]}: {self.causes[0][0]}"
        else:
            lines: list[str] = []
            for manager in dict.fromkeys(manager for manager, _ in owned):
                lines.append(f"conflicts with {manager}:")
                lines += [f"- {shown_path(path)}" for owner, path in owned if owner == manager]
            what = f"{len(owned)} conflicts: " + "\n".join(lines)
        super().__init__(f"Apply failed with {what}")


class Unfit(ValueError):
    """A configuration does not fit the type of its kind."""


class Applied(NamedTuple):
    """What an apply makes: the object, `live` itself when it stays as it is, and its `managedFields`."""

    raw: Json
    entries: list[Json]


class _Merged(NamedTuple):
    raw: Json
    managed: Managed


def applied(rules: Ownership, live: Json, config: Json, manager: str, *, force: bool, now: str) -> Applied:
    """Return what an applier's configuration makes of an object.

    Args:
        live: the object with its `managedFields`; for one that is to be made, nothing but its type.
        config: of the kind and in the version of `rules`, without `managedFields`.
        now: metav1.Time.

    Raises:
        ApplyConflict: without `force`, when others own what would change.
        Unfit: when the configuration has fields or values that the type has not.
    """
    type_ = rules.types(rules.version)
    assert type_ is not None
    wrong = findings(config, type_)
    if wrong:
        raise Unfit(wrong)
    before = live.get("metadata") or {}
    managed = rules.fitting(stored.read(before.get("managedFields")))
    bare = live | {"metadata": {key: value for key, value in before.items() if key != "managedFields"}}
    if not managed:
        first = Manager.updater(BEFORE_FIRST_APPLY, rules.version, rules.subresource)
        managed = rules.updated({}, bare, {}, first, now)
    applier = Manager.applier(manager, rules.subresource)
    try:
        made = _merge(rules, bare, config, managed, applier, force=force)
    except ApplyConflict as conflict:
        if not _is_kubectls_own(rules, bare, conflict, manager, type_):
            raise
        made = _merge(rules, bare, config, managed, applier, force=True)
    is_same = made.raw == bare
    if not is_same and applier in made.managed:
        made.managed[applier] = made.managed[applier]._replace(time=now, entry=None)
    raw = bare if is_same else made.raw
    if manager == _KUBECTL:
        raw = _with_last_applied(raw, config)
    return Applied(raw, stored.written(made.managed))


def _merge(rules: Ownership, live: Json, config: Json, managed: Managed, applier: Manager, *, force: bool) -> _Merged:
    type_ = rules.types(rules.version)
    assert type_ is not None
    last = managed.get(applier)
    named = leaves(config, type_)
    current = managed | {applier: Owned(rules.version, named, last.time if last else "")}
    raw = _pruned(rules, merged(live, config, type_), current, last)
    comparisons = rules.comparisons(live, raw)
    conflicts: list[tuple[Manager, tuple[str, ...]]] = []
    result: Managed = {}
    for manager, owned in current.items():
        if manager == applier:
            continue
        found = comparisons(owned.version)
        if found is None:
            continue
        taken = intersection(owned.fields, found.changed)
        conflicts += [(manager, path) for path in paths(taken)]
        fields = difference(difference(owned.fields, taken), found.removed)
        if fields:
            result[manager] = owned.with_fields(fields)
    if conflicts and not force:
        raise ApplyConflict(sorted(conflicts, key=lambda conflict: conflict[0]))
    own = rules.own(named)
    if own:
        same = last is not None and last.version == rules.version and last.fields == own
        result[applier] = last if same and last is not None else current[applier].with_fields(own)
    return _Merged(raw, result)


def _pruned(rules: Ownership, raw: Json, managed: Managed, last: Owned | None) -> Json:
    """Return the merged object without what the applier named last time, names no more, and nobody else owns."""
    type_ = rules.types(last.version) if last is not None else None
    if last is None or type_ is None:
        return raw
    everything = with_named_fields(leaves(raw, type_), type_)
    without_last = removed(raw, with_named_fields(last.fields, type_), type_)
    kept = with_named_fields(leaves(without_last, type_), type_)
    for version in {last.version: None, **dict.fromkeys(owned.version for owned in managed.values())}:
        in_version = rules.types(version)
        if in_version is None:
            continue
        for owned in managed.values():
            if owned.version == version:
                kept = union(kept, with_named_fields(owned.fields, in_version))
    gone = difference(everything, kept)
    return _gone(raw, gone, with_named_fields(last.fields, type_), type_)


def _gone(raw: Json, gone: FieldSet, last: FieldSet, type_: Type) -> Json:
    """Take out of the object what is to go, but nothing that the applier did not own: others' work hangs on it."""
    left = removed(raw, gone, type_)
    still = with_named_fields(leaves(left, type_), type_)
    everything = with_named_fields(leaves(raw, type_), type_)
    result: Json = removed(raw, intersection(difference(everything, still), last), type_)
    return result


def _is_kubectls_own(rules: Ownership, live: Json, conflict: ApplyConflict, manager: str, type_: Type) -> bool:
    """Tell whether all conflicts are with what kubectl itself applied from the client before.

    Raises ApplyConflict with the others when only some are.
    """
    if manager != _KUBECTL:
        return False
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        before = msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        return False
    if not isinstance(before, dict) or before.get("apiVersion") != rules.version or findings(before, type_):
        return False
    change = compare(before, live, type_)
    own = difference(difference(leaves(before, type_), change.changed), change.removed)
    others = [(owner, path) for owner, path in conflict.owned if not has(own, path)]
    if others:
        raise ApplyConflict(others)
    return True


def _with_last_applied(raw: Json, config: Json) -> Json:
    """Return the object with the annotation of client-side apply kept up to date, where it has one."""
    metadata = raw.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return raw
    given = config.get("metadata") or {}
    if LAST_APPLIED in (given.get("annotations") or {}):
        kept = {key: value for key, value in given["annotations"].items() if key != LAST_APPLIED}
        config = config | {"metadata": given | {"annotations": kept}}
    text = msgspec.json.encode(config, order="sorted").decode() + "\n"
    changed = annotations | {LAST_APPLIED: text}
    if sum(len(key) + len(value) for key, value in changed.items()) > _MAX_ANNOTATIONS_BYTES:
        del changed[LAST_APPLIED]
    return raw | {"metadata": metadata | {"annotations": changed}}
