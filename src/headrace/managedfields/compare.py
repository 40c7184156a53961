"""What has changed between two states of an object, as sets of fields.

Parts that are equal are passed over at the speed of `==`, so the cost is that of what has changed. Source:
sigs.k8s.io/structured-merge-diff v6, `typed.Compare`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from headrace.managedfields.elements import Malformed
from headrace.managedfields.fieldset import LEAF, FieldSet
from headrace.managedfields.types import DEDUCED, ListType, MapType, Type

_Node = FieldSet | None


class _Absent:
    pass


ABSENT: Final = _Absent()
_PLAIN = frozenset({str, int, bool, float})
_NOTHING: tuple[_Node, _Node] = (None, None)


class Comparison(NamedTuple):
    """What is new or has another value, and what is gone."""

    changed: FieldSet
    removed: FieldSet

    @property
    def is_same(self) -> bool:
        return not self.changed and not self.removed


def compare(old: Any, new: Any, type_: Type) -> Comparison:
    """Return what has changed from `old` to `new`, both valid for the type. Items may be in their lists twice."""
    changed, removed = _both(old, new, type_)
    return Comparison(changed or {}, removed or {})


def everything(value: Any, type_: Type) -> FieldSet:
    """Return the node of a value that is new or gone as a whole: every field in it, with those that hold others."""
    match type_.form(value):
        case "map":
            of = type_.map
            assert of is not None
            if of.is_atomic or not isinstance(value, dict) or not value:
                return LEAF
            below = {f"f:{name}": everything(inner, of.of(name) or DEDUCED) for name, inner in value.items()}
            for name in of.always:
                below.setdefault(f"f:{name}", LEAF)
            return {".": LEAF, **below}
        case "list":
            listed = type_.list
            assert listed is not None
            if listed.is_atomic or not isinstance(value, list) or not value:
                return LEAF
            items = _indexed(value, listed)
            return {
                ".": LEAF,
                **{at: everything(found[0], listed.item) if len(found) == 1 else LEAF for at, found in items.items()},
            }
    return LEAF


def _both(old: Any, new: Any, type_: Type) -> tuple[_Node, _Node]:
    """Compare two values of one place; at most one of them is ABSENT."""
    if old is new or old == new:
        return _NOTHING
    if old is ABSENT:
        return everything(new, type_), None
    if new is ABSENT:
        return None, everything(old, type_)
    before, after = type_.form(old), type_.form(new)
    if before != after and old is not None and new is not None:
        return _of_another_form(old, new, type_)
    match after if old is None else before:
        case "map":
            assert type_.map is not None
            return _maps(_mapping(old), _mapping(new), type_.map)
        case "list":
            assert type_.list is not None
            return _lists(_listing(old), _listing(new), type_.list)
    return LEAF, None


def _of_another_form(old: Any, new: Any, type_: Type) -> tuple[_Node, _Node]:
    """A scalar that became an object, or the like: the place has changed, and all that was or is beneath it."""
    gone, came = everything(old, type_), everything(new, type_)
    return came, {element: inner for element, inner in gone.items() if element != "."} or None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listing(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _maps(old: dict[str, Any], new: dict[str, Any], of: MapType) -> tuple[_Node, _Node]:
    if of.is_atomic or (not old and not new):
        return LEAF, None
    changed: FieldSet = {}
    removed: FieldSet = {}
    names = new if old.keys() <= new.keys() else {**old, **new}
    for name in names:
        before, after = old.get(name, ABSENT), new.get(name, ABSENT)
        if before is after or before == after:
            continue
        if type(before) in _PLAIN and type(after) in _PLAIN:  # most of what ever changes
            changed[f"f:{name}"] = LEAF
            continue
        if name in of.always:
            empty: Any = None if name in of.nullable else {}
            before = empty if before is ABSENT else before
            after = empty if after is ABSENT else after
        came, went = _both(before, after, of.of(name) or DEDUCED)
        if came is not None:
            changed[f"f:{name}"] = came
        if went is not None:
            removed[f"f:{name}"] = went
    return changed or None, removed or None


def _lists(old: list[Any], new: list[Any], of: ListType) -> tuple[_Node, _Node]:
    if of.is_atomic or (not old and not new):
        return LEAF, None
    found = _by_name(old, new, of)
    if found is not None:
        return found
    before, after = _indexed(old, of), _indexed(new, of)
    changed: FieldSet = {}
    removed: FieldSet = {}
    for at in {**before, **after}:
        came, went = _items(before.get(at, ()), after.get(at, ()), of.item)
        if came is not None:
            changed[at] = came
        if went is not None:
            removed[at] = went
    return changed or None, removed or None


def _by_name(old: list[Any], new: list[Any], of: ListType) -> tuple[_Node, _Node] | None:
    """Compare lists whose items have one key, a text, and none twice, as conditions are: elements are made only for
    items that differ. None when these lists are not so."""
    if len(of.keys) != 1:
        return None
    (key,) = of.keys
    try:
        before = {item[key]: item for item in old}
        after = {item[key]: item for item in new}
    except (KeyError, TypeError):
        return None
    if len(before) != len(old) or len(after) != len(new) or not all(type(name) is str for name in (*before, *after)):
        return None
    changed: FieldSet = {}
    removed: FieldSet = {}
    for name in {**before, **after}:
        item = after.get(name) or before[name]
        came, went = _both(before.get(name, ABSENT), after.get(name, ABSENT), of.item)
        if came is not None:
            changed[of.element(item)] = came
        if went is not None:
            removed[of.element(item)] = went
    return changed or None, removed or None


def _items(old: list[Any] | tuple[()], new: list[Any] | tuple[()], item: Type) -> tuple[_Node, _Node]:
    """Compare what is in a list under one element; what is there twice is owned as a whole."""
    if len(old) <= 1 and len(new) <= 1:
        return _both(old[0] if old else ABSENT, new[0] if new else ABSENT, item)
    if len(old) > 1 and len(new) > 1:
        return (None, None) if old == new else (LEAF, None)
    if len(old) > 1:
        return (everything(new[0], item) if new else None), LEAF
    came: _Node = LEAF
    went = everything(old[0], item) if old else None
    return came, went


def _indexed(items: list[Any], of: ListType) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {}
    for item in items:
        try:
            at = of.element(item)
        except Malformed:
            continue  # an item that validation lets through and that nobody can own by itself
        result.setdefault(at, []).append(item)
    return result
