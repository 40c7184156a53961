"""Kinds and documents: the two words in which everything above talks about Kubernetes objects.

A `Kind` names a resource and the frozen msgspec struct that reads it. A `Doc` is one object: the raw JSON as the
server sent it plus, on demand, the typed view. Views are for reading only. Writes are patches of fields we own, made
from raw JSON, because encoding a view would drop every field the struct does not know (docs/design.md, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from headrace.errors import InvalidSpec
from headrace.spec.view import without_nulls

Json = dict[str, Any]
"""One JSON object. Treat those inside a `Doc` as read-only; copy before changing."""

T = TypeVar("T", bound=msgspec.Struct)


class Ref(NamedTuple):
    """Names one object of a kind; `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Column(NamedTuple):
    """A printed column, as CRDs' `additionalPrinterColumns` and the server-side Table have it."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False
    description: str = ""


class Kind(msgspec.Struct, Generic[T], frozen=True, kw_only=True, eq=False):
    """One resource type and how to read it.

    `group` is empty for core/v1. `subresources` lists those with their own endpoint (`status`, `log`, `exec`, …).
    """

    group: str
    version: str
    name: str
    plural: str
    view: type[T]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.name.lower()

    @property
    def resource(self) -> str:
        """`plural.group`, as RBAC and error messages write it; only `plural` for core."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, an object or a subresource (Kubernetes API concepts, Resource URIs)."""
        parts = ["/apis" if self.group else "/api"]
        if self.group:
            parts.append(self.group)
        parts.append(self.version)
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def __str__(self) -> str:
        return self.name


class Doc(Generic[T]):
    """One object as read from a server. Immutable by convention: never change `raw`."""

    __slots__ = ("__dict__", "kind", "raw")

    def __init__(self, kind: Kind[T], raw: Json) -> None:
        self.kind = kind
        self.raw = raw

    @cached_property
    def view(self) -> T:
        """The typed view. Raises InvalidSpec with the path of the first field that has the wrong type.

        Servers send null for some absent fields (`creationTimestamp` in pod templates), so nulls are absent here too.
        """
        try:
            return msgspec.convert(self.raw, self.kind.view)
        except msgspec.ValidationError:
            pass
        try:
            return msgspec.convert(without_nulls(self.raw), self.kind.view)
        except msgspec.ValidationError as error:
            raise InvalidSpec(f"{self.kind.name} {self.ref} cannot be read: {error}.") from error

    @property
    def meta(self) -> Json:
        meta: Json = self.raw.get("metadata") or {}
        return meta

    @property
    def ref(self) -> Ref:
        return Ref(self.namespace, self.name)

    @property
    def name(self) -> str:
        return str(self.meta.get("name", ""))

    @property
    def namespace(self) -> str:
        return str(self.meta.get("namespace", ""))

    @property
    def uid(self) -> str:
        return str(self.meta.get("uid", ""))

    @property
    def version(self) -> str:
        """metadata.resourceVersion: opaque, compared for equality only."""
        return str(self.meta.get("resourceVersion", ""))

    @property
    def generation(self) -> int:
        return int(self.meta.get("generation", 0))

    @property
    def labels(self) -> Mapping[str, str]:
        return self.meta.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.meta.get("annotations") or {}

    @property
    def finalizers(self) -> tuple[str, ...]:
        return tuple(self.meta.get("finalizers") or ())

    @property
    def is_deleting(self) -> bool:
        return bool(self.meta.get("deletionTimestamp"))

    @property
    def owners(self) -> list[Json]:
        owners: list[Json] = self.meta.get("ownerReferences") or []
        return owners

    @property
    def spec(self) -> Json:
        spec: Json = self.raw.get("spec") or {}
        return spec

    @property
    def status(self) -> Json:
        status: Json = self.raw.get("status") or {}
        return status

    def owner_reference(self, *, controller: bool = True, block_deletion: bool = True) -> Json:
        """Return the `ownerReferences` entry that makes another object this one's dependant."""
        return {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.name,
            "name": self.name,
            "uid": self.uid,
            "controller": controller,
            "blockOwnerDeletion": block_deletion,
        }

    def __repr__(self) -> str:
        return f"Doc({self.kind.name} {self.ref} @{self.version})"
