"""The core kinds' fields, read from `kubernetes.json.gz`: types, references and merge keys, without the prose.

The file is published by the Kubernetes project under Apache-2.0 and trimmed by `tools/vendor_openapi.py`. Descriptions
are read again only when a document is rendered for `kubectl explain`, so that they do not stay in memory.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import msgspec

from headrace.spec.kind import Json, Kind

Type = Literal["object", "map", "list", "string", "integer", "number", "boolean", "quantity", "int-or-string", "any"]

_MAP_TYPE = "x-kubernetes-map-type"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SCALARS: Mapping[str, Type] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    _META + "Time": "string",
    _META + "MicroTime": "string",
}


class FieldType(NamedTuple):
    """The type of one field. `schema` names an object's schema; `item` is what a list or map holds.

    `strategy` holds Kubernetes' patch strategies (`merge`, `retainKeys`), `merge_key` the field by which a merged
    list's items are told apart (empty where items are plain values). `owned` says how parts are owned in server-side
    apply: `atomic`, `granular`, `set` or `map` (by `keys`), empty where it is not said. `default` is what an absent
    value stands for, None where there is no such value.
    """

    type: Type
    schema: str = ""
    item: FieldType | None = None
    strategy: tuple[str, ...] = ()
    merge_key: str = ""
    owned: str = ""
    keys: tuple[str, ...] = ()
    default: Any = None


class Published(msgspec.Struct, frozen=True):
    """The release that was vendored and its schemas by name, prose included."""

    version: str
    schemas: dict[str, Json]


def read_published() -> Published:
    """Read the vendored file: about 10 ms and 3 MB, so callers keep what they need of it and drop the rest."""
    packed = resources.files(__package__).joinpath("kubernetes.json.gz").read_bytes()
    return msgspec.json.decode(gzip.decompress(packed), type=Published)


class Structure(NamedTuple):
    """All published schemas: `objects` by `(group, version, kind)`, `fields` by schema name and field name.

    `required` and `atomic` name, by schema name, fields that are always there and objects that are owned as a whole.
    """

    objects: Mapping[tuple[str, str, str], str]
    fields: Mapping[str, Mapping[str, FieldType]]
    required: Mapping[str, frozenset[str]]
    atomic: frozenset[str]


@cache
def structure() -> Structure:
    """Return the published schemas' fields; read once a process."""
    published = read_published().schemas
    objects = {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, schema in published.items()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
    fields = {
        name: {field: _field_type(spec, published) for field, spec in schema["properties"].items()}
        for name, schema in published.items()
        if "properties" in schema
    }
    required = {name: frozenset(schema["required"]) for name, schema in published.items() if schema.get("required")}
    atomic = frozenset(name for name, schema in published.items() if schema.get(_MAP_TYPE) == "atomic")
    return Structure(objects, fields, required, atomic)


def root_type(kind: Kind[Any]) -> FieldType | None:
    """Return the type of whole objects of `kind`, or None for kinds that Kubernetes does not publish (CRDs)."""
    name = structure().objects.get((kind.group, kind.version, kind.name))
    return FieldType("object", name) if name else None


def child_type(parent: FieldType, name: str) -> FieldType | None:
    """Return the type behind field or map key `name`; list items are stepped into without a name of their own."""
    while parent.type == "list" and parent.item is not None:
        parent = parent.item
    if parent.type == "map":
        return parent.item
    return structure().fields.get(parent.schema, {}).get(name)


def _field_type(spec: Json, published: Mapping[str, Json]) -> FieldType:
    reference = spec.get("$ref") or next((part["$ref"] for part in spec.get("allOf", ()) if "$ref" in part), "")
    default, owned = spec.get("default"), spec.get(_MAP_TYPE, "")
    if reference:
        return _referenced(reference.rpartition("/")[2], published)._replace(owned=owned, default=default)
    match spec.get("type"):
        case "array":
            return FieldType(
                "list",
                "",
                _field_type(spec["items"], published),
                strategy=tuple(filter(None, spec.get("x-kubernetes-patch-strategy", "").split(","))),
                merge_key=spec.get("x-kubernetes-patch-merge-key", ""),
                owned=spec.get("x-kubernetes-list-type", ""),
                keys=tuple(spec.get("x-kubernetes-list-map-keys", ())),
            )
        case "object" if "additionalProperties" in spec:
            return FieldType("map", "", _field_type(spec["additionalProperties"], published), owned=owned)
        case "string" | "integer" | "number" | "boolean" as scalar:
            return FieldType(scalar, default=default)
        case _:
            return FieldType("any")


def _referenced(name: str, published: Mapping[str, Json]) -> FieldType:
    if name in _SCALARS:
        return FieldType(_SCALARS[name])
    return FieldType("object", name) if "properties" in published[name] else FieldType("any")
