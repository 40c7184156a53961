"""Sets of fields, kept as FieldsV1 itself: the tree that is stored is the tree that is worked on.

A set is a JSON object whose keys are path elements and whose values are sets below them. A field is a member when its
object is empty (a leaf) or holds the key `.` (a field that has members beneath it and is one itself). The outermost
object stands for the whole object, which nobody owns; empty, it is the empty set.

Everything here is pure, gives back canonical trees and shares with its arguments what has not changed. Source:
Kubernetes API reference, FieldsV1; sigs.k8s.io/structured-merge-diff v6, package fieldpath.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.managedfields.elements import Malformed, normalised, order, shown

FieldSet = dict[str, Any]
"""A set of fields, or what lies below one field. Never change one."""

SELF = "."
LEAF: FieldSet = {}


def is_member(node: FieldSet) -> bool:
    """Tell whether the field that a node stands for is itself in the set."""
    return not node or SELF in node


def node(*, member: bool, below: FieldSet) -> FieldSet | None:
    """Return the node of a field from its membership and what is below it; None where there is nothing."""
    if not below:
        return LEAF if member else None
    return {SELF: LEAF, **below} if member else below


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return what is in either; `left` itself where `right` adds nothing to it."""
    result = left
    for element, theirs in right.items():
        ours = left.get(element)
        both = theirs if ours is None else ours if ours is theirs or element == SELF else _joined(ours, theirs)
        if both is not ours:
            if result is left:
                result = dict(left)
            result[element] = both
    return result


def _joined(ours: FieldSet, theirs: FieldSet) -> FieldSet:
    if not theirs:
        return ours if is_member(ours) else {SELF: LEAF, **ours}
    if not ours:
        return theirs if is_member(theirs) else {SELF: LEAF, **theirs}
    return union(ours, theirs)


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return what is in `left` and not in `right`, field by field: a field goes without those beneath it."""
    result = left
    for element, theirs in right.items():
        ours = left.get(element)
        if ours is None or element == SELF:
            continue
        below = difference(ours, theirs)
        member = is_member(ours) and not is_member(theirs)
        if below is ours and member == is_member(ours):
            continue
        rest = node(member=member, below=_below(below))
        if result is left:
            result = dict(left)
        if rest is None:
            del result[element]
        else:
            result[element] = rest
    return result


def without_branches(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return `left` without the members of `right` and without everything beneath them."""
    result = left
    for element, theirs in right.items():
        ours = left.get(element)
        if ours is None or element == SELF:
            continue
        if is_member(theirs):
            rest = None
        else:
            below = without_branches(ours, theirs)
            if below is ours:
                continue
            rest = node(member=is_member(ours), below=_below(below))
        if result is left:
            result = dict(left)
        if rest is None:
            del result[element]
        else:
            result[element] = rest
    return result


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return what is in both."""
    result: FieldSet = {}
    for element, ours in left.items():
        theirs = right.get(element)
        if theirs is None or element == SELF:
            continue
        below = intersection(ours, theirs) if ours and theirs else LEAF
        both = node(member=is_member(ours) and is_member(theirs), below=below)
        if both is not None:
            result[element] = both
    return result


def has(fields: FieldSet, path: tuple[str, ...]) -> bool:
    """Tell whether the field at `path` is in the set."""
    for element in path:
        found = fields.get(element)
        if found is None:
            return False
        fields = found
    return bool(path) and is_member(fields)


def paths(fields: FieldSet, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each member in a real API server's order: those of one level before those beneath them."""
    elements = sorted((element for element in fields if element != SELF), key=order)
    for element in elements:
        if is_member(fields[element]):
            yield (*above, element)
    for element in elements:
        if fields[element]:
            yield from paths(fields[element], (*above, element))


def shown_path(path: tuple[str, ...]) -> str:
    """Return a path as people read it: `.spec.containers[name="main"].image`."""
    return "".join(map(shown, path))


def parsed(tree: Any) -> FieldSet:
    """Return the canonical set of a FieldsV1 that a client wrote; raises Malformed for what is none."""
    return _below(_parsed(tree))


def _parsed(tree: Any) -> FieldSet:
    if tree is None:
        return LEAF
    if not isinstance(tree, dict):
        raise Malformed("FieldsV1 is an object of objects")
    result: FieldSet = {}
    for element, inner in tree.items():
        if element == SELF:
            continue
        canonical = normalised(element)
        if canonical is not None:
            result[canonical] = _parsed(inner)
    return {SELF: LEAF, **result} if SELF in tree and result else result


def _below(fields: FieldSet) -> FieldSet:
    return {key: value for key, value in fields.items() if key != SELF} if SELF in fields else fields
