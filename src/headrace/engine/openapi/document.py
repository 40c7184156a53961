"""What `/openapi/v3` serves: one document a group and version, and an index of them with hashes.

Documents are rendered when first asked for and kept compressed, and again after a CRD has come or gone. Core kinds
come from the published schemas with their prose, so that `kubectl explain` works; the others from their CRDs.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec

from headrace.engine.openapi.paths import META, resource_paths
from headrace.engine.openapi.schemas import read_published
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.spec.kind import Json, Kind

_SHARED = (f"{META}Status", f"{META}DeleteOptions", f"{META}Patch")


class Document(NamedTuple):
    """One rendered document: gzip-compressed JSON and the hash of its content."""

    packed: bytes
    hash: str

    def text(self) -> bytes:
        """Return the JSON itself."""
        return gzip.decompress(self.packed)


class Documents:
    """The documents of a registry by their path (`api/v1`, `apis/headrace.io/v1alpha1`)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._revision = -1
        self._documents: dict[str, Document] = {}
        self._rendering = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)

    async def current(self) -> dict[str, Document]:
        """Return the documents; after a change they are rendered in a worker thread, which takes about 30 ms."""
        async with self._rendering:
            if self._revision != self._registry.revision:
                revision, resources = self._registry.revision, list(self._registry)
                self._documents = await anyio.to_thread.run_sync(_packed, resources, limiter=self._limiter)
                self._revision = revision
            return self._documents


def _packed(resources: list[Resource]) -> dict[str, Document]:
    return {path: pack(document) for path, document in render(resources)}


def index(documents: dict[str, Document]) -> Json:
    """Return the body of `/openapi/v3`."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={document.hash}"}
            for path, document in documents.items()
        }
    }


def pack(document: Json) -> Document:
    text = msgspec.json.encode(document, order="deterministic")
    return Document(gzip.compress(text, 5, mtime=0), hashlib.sha256(text).hexdigest().upper())


def render(resources: Iterable[Resource]) -> Iterator[tuple[str, Json]]:
    """Yield the path and content of each document."""
    published = read_published()
    by_kind = {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, schema in published.schemas.items()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
    for place, served in groupby(sorted(resources, key=_place), key=_place):
        paths: Json = {}
        schemas: Json = {}
        for resource in served:
            kind = resource.kind
            name = by_kind.get((kind.group, kind.version, kind.name))
            if name is None:
                name = schema_name(kind)
                schemas |= custom_schemas(name, resource)
            paths |= resource_paths(resource, name, is_patched_strategically=name in published.schemas)
        schemas |= _closure(published.schemas, _references((paths, schemas)), schemas)
        yield (
            place,
            {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": published.version},
                "paths": paths,
                "components": {"schemas": schemas},
            },
        )


def schema_name(kind: Kind[Any]) -> str:
    """Return the component's name of a custom resource, as a real API server makes it: `io.headrace.v1alpha1.Pool`."""
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.name])


def custom_schemas(name: str, resource: Resource) -> Json:
    """Return the schemas of a custom resource and its list."""
    kind = resource.kind
    gvk = {"group": kind.group, "kind": kind.name, "version": kind.version}
    given = resource.schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {
        **given,
        "properties": {
            **_type_meta(),
            "metadata": {"allOf": [{"$ref": f"#/components/schemas/{META}ObjectMeta"}]},
            **{k: v for k, v in (given.get("properties") or {}).items() if k not in {"apiVersion", "kind", "metadata"}},
        },
        "x-kubernetes-group-version-kind": [gvk],
    }
    listed = {
        "type": "object",
        "required": ["items"],
        "properties": {
            **_type_meta(),
            "metadata": {"allOf": [{"$ref": f"#/components/schemas/{META}ListMeta"}]},
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}},
        },
        "x-kubernetes-group-version-kind": [gvk | {"kind": resource.list_kind}],
    }
    return {name: schema, f"{name}List": listed}


def _type_meta() -> Json:
    return {
        "apiVersion": {"type": "string", "description": "The version of this object's schema: group/version."},
        "kind": {"type": "string", "description": "What kind of object this is."},
    }


def _place(resource: Resource) -> str:
    kind = resource.kind
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _closure(published: dict[str, Json], names: Iterable[str], known: Json) -> Json:
    found: Json = {}
    todo = [*names, *_SHARED]
    while todo:
        name = todo.pop()
        if name not in found and name not in known and name in published:
            found[name] = published[name]
            todo += _references(published[name])
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference.rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _references(value)
