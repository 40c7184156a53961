"""What the server must refuse in a CustomResourceDefinition because it could not serve it, and what it will not do.

Form (types of fields, unknown ones) has been judged by the published schema before; here is what that cannot say.
Pure. Source: apiextensions-apiserver `pkg/apis/apiextensions/validation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from headrace.spec.kind import Json

Finding = tuple[str, str]

_NOT_EVALUATED = ("x-kubernetes-validations", "allOf", "anyOf", "oneOf", "not")


def problems(crd: Json) -> Iterator[Finding]:
    """Yield `(path, sentence)` for everything that makes a definition impossible to serve."""
    for index, version in enumerate((crd.get("spec") or {}).get("versions") or ()):
        path = f"spec.versions[{index}]"
        for place, column in enumerate(version.get("additionalPrinterColumns") or ()):
            for field in ("name", "type", "jsonPath"):
                if not column.get(field):
                    yield f"{path}.additionalPrinterColumns[{place}].{field}", "is required"
        scale = (version.get("subresources") or {}).get("scale")
        if scale is not None:
            for field in ("specReplicasPath", "statusReplicasPath"):
                if not str(scale.get(field) or "").startswith("."):
                    yield f"{path}.subresources.scale.{field}", "is required, such as .spec.replicas"
        for where, schema in _schemas(version, path):
            yield from _schema_problems(schema, where)


def warnings(crd: Json) -> Iterator[str]:
    """Yield a sentence for everything in a definition that is accepted and not carried out."""
    spec = crd.get("spec") or {}
    if (spec.get("conversion") or {}).get("strategy") == "Webhook":
        yield "spec.conversion.strategy Webhook is not carried out: versions are served unconverted."
    for index, version in enumerate(spec.get("versions") or ()):
        told = {
            word: where
            for where, schema in _schemas(version, f"spec.versions[{index}]")
            for word in _NOT_EVALUATED
            if schema.get(word) and not (word == "anyOf" and schema.get("x-kubernetes-int-or-string"))
        }
        for word, where in told.items():
            yield f"{where}.{word} is not evaluated by this engine."


def _schemas(version: Json, path: str) -> Iterator[tuple[str, Json]]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if isinstance(schema, dict):
        yield from _walk(schema, f"{path}.schema.openAPIV3Schema")


def _walk(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    yield path, schema
    for key, below in (schema.get("properties") or {}).items():
        if isinstance(below, dict):
            yield from _walk(below, f"{path}.properties[{key}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _walk(schema[key], f"{path}.{key}")


def _schema_problems(schema: Json, path: str) -> Iterator[Finding]:
    items: Any = schema.get("items")
    if items is not None and not isinstance(items, dict):
        yield f"{path}.items", "must be one schema"
    if schema.get("type") == "array" and items is None:
        yield f"{path}.items", "is required for arrays"
    has_type = schema.get("type") or schema.get("x-kubernetes-int-or-string")
    if not has_type and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield f"{path}.type", "must not be empty for specified fields"
    pattern = schema.get("pattern")
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"{path}.pattern", f"is no regular expression: {error}"
