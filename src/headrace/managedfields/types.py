"""What a value may be and how its parts are owned: one by one, or as a whole.

A type says what it takes as a scalar, as a list and as a map; most take one of them, values without a schema all three.
Which one a value is taken as is found out from the value. Source: sigs.k8s.io/structured-merge-diff v6, packages schema
and typed; Kubernetes "Server-Side Apply", "Merge strategy".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from headrace.managedfields.elements import keyed, valued

Scalar = Literal["", "string", "numeric", "boolean", "untyped"]
Form = Literal["map", "scalar", "list"]


class ListType:
    """A list: `is_atomic` is owned as a whole, one with `keys` is a map of its items, else it is a set.

    Args:
        keys: in any order.
        defaults: of keys that items may leave out.
    """

    __slots__ = ("_defaults", "is_atomic", "item", "keys")

    def __init__(
        self, item: Type, *, is_atomic: bool, keys: tuple[str, ...] = (), defaults: Mapping[str, Any] | None = None
    ) -> None:
        self.item = item
        self.is_atomic = is_atomic
        self.keys = tuple(sorted(keys))
        self._defaults = defaults or {}

    def element(self, item: Any) -> str:
        """Return the path element of an item; raises Malformed for one that has none. Not for atomic lists."""
        return keyed(item, self.keys, self._defaults) if self.keys else valued(item)


class MapType:
    """An object with named `fields`, a map of `rest`, or both; None as `rest` allows no other names.

    Args:
        always: fields that are there, empty, even when nobody has written them: those of Go's structs.
        nullable: among them the lists, which are null and not an empty object.
    """

    __slots__ = ("always", "fields", "is_atomic", "nullable", "rest")

    def __init__(
        self,
        fields: dict[str, Type],
        rest: Type | None,
        *,
        is_atomic: bool = False,
        always: frozenset[str] = frozenset(),
        nullable: frozenset[str] = frozenset(),
    ) -> None:
        self.fields = fields
        self.rest = rest
        self.is_atomic = is_atomic
        self.always = always
        self.nullable = nullable

    def of(self, name: str) -> Type | None:
        """Return the type of a field; None for one that may not be there."""
        return self.fields.get(name, self.rest)


class Type:
    """What one value may be. Parts may be filled in later, so that a type can hold itself."""

    __slots__ = ("list", "map", "scalar")

    def __init__(self, *, scalar: Scalar = "", list: ListType | None = None, map: MapType | None = None) -> None:
        self.scalar: Scalar = scalar
        self.list = list
        self.map = map

    def form(self, value: Any) -> Form:
        """Return as what a value is taken; null, and a value of a wrong type, as the first that the type allows."""
        if isinstance(value, dict):
            if self.map is not None:
                return "map"
        elif isinstance(value, list):
            if self.list is not None:
                return "list"
        elif value is not None and self.scalar:
            return "scalar"
        return "map" if self.map is not None else "scalar" if self.scalar else "list"


STRING = Type(scalar="string")
NUMERIC = Type(scalar="numeric")
BOOLEAN = Type(scalar="boolean")
UNTYPED = Type(scalar="untyped")


def _anything(*, is_atomic: bool) -> Type:
    made = Type(scalar="untyped")
    inner = made if is_atomic else ATOMIC
    made.list = ListType(inner, is_atomic=True)
    made.map = MapType({}, made, is_atomic=is_atomic)
    return made


ATOMIC = _anything(is_atomic=True)
"""Anything, owned as a whole."""
DEDUCED = _anything(is_atomic=False)
"""Anything: maps field by field, lists as a whole. What is taken where no schema says more."""


def is_deduced(map_type: MapType) -> bool:
    """Tell whether a map holds unknown fields only, whose atomicity no schema ever said."""
    return not map_type.fields and map_type.rest is DEDUCED
