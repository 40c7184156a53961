"""CustomResourceDefinitions of our kinds and Fluid's, generated from their typed views.

Schemas are structural, as a real API server demands (Kubernetes docs, "Specifying a structural schema"): no `$ref`,
every node with a type or preserving unknown fields, null as `nullable`, defaults only where they say something. They
are made from `msgspec.inspect` directly: inlining needs no component names, and descriptions come with the classes.

Fluid's kinds keep unknown fields everywhere (manifests of newer Fluids apply unchanged); ours are pruned by the CRD,
and refused before that by validation, which names the nearest field.
"""

from __future__ import annotations

from typing import Any

from msgspec import NODEFAULT
from msgspec import inspect as types

from headrace.spec.defaults.views import is_core, struct_type, written_default
from headrace.spec.descriptions import class_description, field_descriptions
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import REFUSED_FLUID_KINDS
from headrace.spec.names import FLUID_GROUP
from headrace.spec.validation import refusal

_ROOT: dict[str, Json] = {
    "apiVersion": {"type": "string", "description": "The version of this object's schema."},
    "kind": {"type": "string", "description": "The kind of this object."},
    "metadata": {"type": "object"},  # a real API server refuses even a description here
}
_ANYTHING: Json = {"x-kubernetes-preserve-unknown-fields": True}


def crd(kind: Kind[Any]) -> Json:
    """Return the CustomResourceDefinition of one of our or Fluid's kinds, ready to apply."""
    version: Json = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(kind)},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.has_status:
        version["subresources"] = {"status": {}}
    names: Json = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.singular,
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    if kind.categories:
        names["categories"] = list(kind.categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.resource, "labels": {"app.kubernetes.io/part-of": "headrace"}},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def schema(kind: Kind[Any]) -> Json:
    """Return the structural schema of a kind, `apiVersion`, `kind` and `metadata` included."""
    if kind in REFUSED_FLUID_KINDS:
        never = {"rule": "false", "message": refusal(kind.name)}
        return {
            "type": "object",
            "description": f"{refusal(kind.name)}.",
            "properties": dict(_ROOT),
            **_ANYTHING,
            "x-kubernetes-validations": [never],
        }
    root = _Schemas(keeps_unknown=kind.group == FLUID_GROUP).struct(struct_type(kind.view), ())
    root["properties"] = _ROOT | {name: node for name, node in root["properties"].items() if name != "metadata"}
    return root


def _column(column: Any) -> Json:
    result: Json = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.description:
        result["description"] = column.description
    if column.wide:
        result["priority"] = 1
    return result


class _Schemas:
    """Walks inspected types. `above` holds the structs around a node, so that a recursive view ends."""

    def __init__(self, *, keeps_unknown: bool) -> None:
        self._keeps_unknown = keeps_unknown

    def struct(self, struct: types.StructType, above: tuple[type, ...]) -> Json:
        if struct.cls in above:
            return {"type": "object", **_ANYTHING}
        inner = (*above, struct.cls)
        told = field_descriptions(struct.cls)
        properties = {
            field.encode_name: self._field(field, told.get(field.name, ""), inner, in_core=is_core(struct))
            for field in struct.fields
        }
        node: Json = {"type": "object", "description": class_description(struct.cls), "properties": properties}
        if required := sorted(field.encode_name for field in struct.fields if field.required):
            node["required"] = required
        if self._keeps_unknown:
            node |= _ANYTHING
        return node

    def _field(self, field: types.Field, description: str, above: tuple[type, ...], *, in_core: bool) -> Json:
        node = self._node(field.type, above)
        if description:
            node["description"] = description
        default = NODEFAULT if in_core else written_default(field)
        if default is not NODEFAULT:
            node["default"] = default
        return node

    def _node(self, wanted: types.Type, above: tuple[type, ...]) -> Json:
        match wanted:
            case types.StructType():
                return self.struct(wanted, above)
            case types.DictType():
                return {"type": "object", "additionalProperties": self._node(wanted.value_type, above)}
            case types.VarTupleType():
                return {"type": "array", "items": self._node(wanted.item_type, above)}
            case types.UnionType():
                return self._union(wanted, above)
            case types.LiteralType():
                return {"type": "string", "enum": list(wanted.values)}
            case types.StrType():
                return {"type": "string"}
            case types.BoolType():
                return {"type": "boolean"}
            case types.IntType():
                return {"type": "integer"}
            case types.FloatType():
                return {"type": "number"}
            case _:
                return dict(_ANYTHING)

    def _union(self, union: types.UnionType, above: tuple[type, ...]) -> Json:
        choices = [choice for choice in union.types if not isinstance(choice, types.NoneType)]
        if len(choices) == 1:
            node = self._node(choices[0], above)
        elif {type(choice) for choice in choices} == {types.IntType, types.StrType}:
            node = {"x-kubernetes-int-or-string": True}
        else:
            # A structural schema knows no other union; values are checked by validation.
            return dict(_ANYTHING)
        if len(choices) < len(union.types):
            node["nullable"] = True
        return node
