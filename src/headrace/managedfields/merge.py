"""Putting a configuration over an object, and taking fields out of one. Nothing given is changed; much is shared.

Source: sigs.k8s.io/structured-merge-diff v6, `typed.Merge` and `typed.RemoveItems`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.managedfields.fieldset import FieldSet, is_member
from headrace.managedfields.types import DEDUCED, ListType, MapType, Type


def merged(live: Any, config: Any, type_: Type) -> Any:
    """Return `live` with every field that `config` has. Nothing goes; lists follow the order of `config`."""
    form = type_.form(config)
    if form == "map":
        of = type_.map
        assert of is not None
        if of.is_atomic or not (live or config):
            return config
        return _map(live, config, of) if isinstance(live, dict) or isinstance(config, dict) else config
    if form == "list":
        listed = type_.list
        assert listed is not None
        if listed.is_atomic or not (live or config) or not isinstance(live, list):
            return config
        return _list(live, config or (), listed)
    return config


def _map(live: Any, config: Any, of: MapType) -> Any:
    result = dict(live) if isinstance(live, dict) else {}
    for name, wanted in (config or {}).items():
        if name in result:
            result[name] = merged(result[name], wanted, of.of(name) or DEDUCED)
        else:
            result[name] = wanted
    return result


def _list(live: list[Any], config: Sequence[Any], of: ListType) -> list[Any]:
    """Merge two lists whose items have elements.

    Items that both have come in the order of `config`; those of `live` alone stay before whatever they stood before.
    """
    theirs = [(of.element(item), item) for item in config]
    ours = [(of.element(item), item) for item in live]
    wanted = dict(theirs)
    counts: dict[str, int] = {}
    for at, _ in ours:
        counts[at] = counts.get(at, 0) + 1
    present = dict(ours)
    shared = iter([at for at, _ in theirs if at in present])
    awaited = next(shared, None)
    result: list[Any] = []
    placed: set[str] = set()

    def place(at: str) -> None:
        placed.add(at)
        is_once = counts.get(at) == 1  # what is there twice is replaced, not merged
        result.append(merged(present[at], wanted[at], of.item) if is_once else wanted[at])

    i = j = 0
    while i < len(ours) or j < len(theirs):
        if i < len(ours) and j < len(theirs):
            at = ours[i][0]
            if at == theirs[j][0]:
                place(at)
                i, j, awaited = i + 1, j + 1, next(shared, None)
                continue
            if at in wanted and awaited is not None and awaited != at:
                i += 1
                continue
        if i < len(ours):
            at = ours[i][0]
            if at not in wanted:
                result.append(ours[i][1])
                i += 1
                continue
            if at in placed:
                i += 1
        if j < len(theirs):
            at = theirs[j][0]
            place(at)
            j += 1
            if awaited == at:
                awaited = next(shared, None)
    return result


def removed(value: Any, fields: FieldSet, type_: Type) -> Any:
    """Return `value` without the members of `fields`; a part that has lost everything is null, and still there."""
    if not fields:
        return value
    form = type_.form(value)
    if form == "map" and isinstance(value, dict):
        assert type_.map is not None
        return value if type_.map.is_atomic else _map_without(value, fields, type_.map)
    if form == "list" and isinstance(value, list):
        assert type_.list is not None
        return value if type_.list.is_atomic else _list_without(value, fields, type_.list)
    return value


def _map_without(value: dict[str, Any], fields: FieldSet, of: MapType) -> Any:
    result = {}
    for name, inner in value.items():
        below = fields.get(f"f:{name}")
        if below is None:
            result[name] = inner
        elif not is_member(below):
            result[name] = removed(inner, below, of.of(name) or DEDUCED)
    return result or None


def _list_without(value: list[Any], fields: FieldSet, of: ListType) -> Any:
    result = []
    for item in value:
        below = fields.get(of.element(item))
        if below is None:
            result.append(item)
        elif not is_member(below):
            result.append(removed(item, below, of.item))
    return result or None
