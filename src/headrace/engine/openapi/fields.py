"""Fields that a core kind does not have, and values of the wrong type, by path, from the published OpenAPI.

This is the decoding step of a real API server: unknown fields are dropped (and reported, as `fieldValidation` asks),
values of the wrong JSON type are refused. Only form is judged here; what values mean is `headrace.spec.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.engine.openapi.schemas import FieldType, root_type, structure
from headrace.spec.kind import Json, Kind

_PYTHON: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "quantity": (str, int, float),
    "int-or-string": (int, str),
}
_JSON_NAME: Mapping[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
}


_COLLECTIONS = frozenset({"list", "map"})


class Examined(NamedTuple):
    """What was found in one object.

    Args:
        body: the object without its unknown fields, and without empty lists and maps that need not be there; the
            object given when it has none.
        unknown: paths of unknown fields as kubectl prints them, such as `spec.containers[0].imagePulPolicy`.
        wrong: `(path, sentence)` for each value of the wrong type.
    """

    body: Json
    unknown: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str], ...] = ()


def examine(kind: Kind[Any], body: Json) -> Examined:
    """Compare `body` with the published schema of `kind`; kinds without one are returned as they came.

    `null` is accepted everywhere, as by a real API server, which reads it as absent. `body` is not changed.
    """
    root = root_type(kind)
    if root is None:
        return Examined(body)
    walk = _Walk()
    kept: Json = walk.value(body, root, "")
    return Examined(kept, tuple(walk.unknown), tuple(walk.wrong))


class _Walk:
    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.wrong: list[tuple[str, str]] = []

    def value(self, value: Any, field: FieldType, path: str) -> Any:
        """Return `value` without unknown fields, the very same object where nothing had to go."""
        if value is None or field.type == "any":
            return value
        if not _fits(value, field.type):
            self.wrong.append((path, f"must be {_article(field.type)}, not {_article(_JSON_NAME[type(value)])}"))
            return value
        if field.type == "object":
            return self._object(value, field.schema, path)
        if field.type == "map" and field.item is not None:
            return self._same_or_new(value, {k: self.value(v, field.item, f"{path}.{k}") for k, v in value.items()})
        if field.type == "list" and field.item is not None:
            kept = [self.value(item, field.item, f"{path}[{i}]") for i, item in enumerate(value)]
            return value if all(a is b for a, b in zip(kept, value, strict=True)) else kept
        return value

    def _object(self, value: Json, schema: str, path: str) -> Json:
        known = structure()
        fields, required = known.fields[schema], known.required.get(schema, ())
        kept = {}
        for name, item in value.items():
            where = f"{path}.{name}" if path else name
            field = fields.get(name)
            if field is None:
                self.unknown.append(where)
            elif (
                item
                or field.type not in _COLLECTIONS
                or name in required
                or (item is not None and not _fits(item, field.type))
            ):
                kept[name] = self.value(item, field, where)
        return self._same_or_new(value, kept)

    @staticmethod
    def _same_or_new(old: Json, new: Json) -> Json:
        return old if len(old) == len(new) and all(new[key] is old[key] for key in old) else new


def _fits(value: Any, type_name: str) -> bool:
    accepted = _PYTHON[type_name]
    return isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aio" else f"a {word}"
