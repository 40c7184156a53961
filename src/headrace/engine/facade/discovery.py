"""What there is: the old discovery documents and the aggregated one (KEP-3352), rendered once per registry revision.

A subresource is listed only when it is really served, so that `kubectl` never tries what would be refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from headrace.engine.pipeline.registry import Registry, Resource
from headrace.spec.kind import Json

_UPDATE = ("get", "patch", "update")
_CREATE = ("create",)
SUBRESOURCE_VERBS: dict[str, tuple[str, ...]] = {
    "status": _UPDATE,
    "scale": _UPDATE,
    "log": ("get",),
    "exec": ("create", "get"),
    "portforward": ("create", "get"),
    "binding": _CREATE,
    "eviction": _CREATE,
    "token": _CREATE,
    "finalize": ("update",),
}
"""What is served of each subresource; those that are not here answer 404 or 501."""

_RESPONSE_KINDS: dict[str, tuple[str, str, str]] = {
    "exec": ("", "v1", "PodExecOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
    "binding": ("", "v1", "Binding"),
    "eviction": ("policy", "v1", "Eviction"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "scale": ("autoscaling", "v1", "Scale"),
}


class Row(NamedTuple):
    """One resource or subresource, as discovery lists it."""

    group: str
    version: str
    plural: str
    subresource: str
    kind: tuple[str, str, str]
    namespaced: bool
    verbs: tuple[str, ...]
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


def _review(group: str, plural: str, kind: str) -> Row:
    return Row(group, "v1", plural, "", (group, "v1", kind), False, _CREATE, kind.lower())


REVIEWS = (
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
)
"""Kinds that are asked, never stored."""


class Answered(NamedTuple):
    """One rendered document: JSON and its entity tag."""

    body: bytes
    etag: str


class Discovery:
    """Discovery of a registry, plus groups served by extensions.

    Args:
        extensions: `(group, version)` of aggregated APIs, listed without resources.
        further: what is served besides, and in no registry.
    """

    def __init__(
        self, registry: Registry, extensions: Sequence[tuple[str, str]] = (), further: Sequence[Row] = ()
    ) -> None:
        self._registry = registry
        self._further = tuple(further)
        self._extensions = tuple(dict.fromkeys(extensions))
        self._revision = -1
        self._rows: list[Row] = []
        self._rendered: dict[str, Answered] = {}

    def aggregated(self, *, core: bool) -> Answered:
        """Return the APIGroupDiscoveryList at `/api` (core) or `/apis`."""
        return self._render(f"aggregated {core}", lambda: _aggregated(self._of(core=core), self._groups(core=core)))

    def versions(self) -> Answered:
        """Return the APIVersions at `/api`."""
        clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]
        body = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": clients}
        return self._render("versions", lambda: body)

    def groups(self) -> Answered:
        """Return the APIGroupList at `/apis`."""
        return self._render(
            "groups",
            lambda: {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(name, versions) for name, versions in self._groups(core=False).items()],
            },
        )

    def group(self, name: str) -> Answered | None:
        """Return the APIGroup at `/apis/{name}`; None where there is no such group."""
        self._refresh()
        versions = self._groups(core=False).get(name)
        if versions is None:
            return None
        body = {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}
        return self._render(f"group {name}", lambda: body)

    def resources(self, group: str, version: str) -> Answered | None:
        """Return the APIResourceList of a group and version; None where it is not served."""
        self._refresh()
        if version not in self._groups(core=not group).get(group, ()):
            return None
        rows = [row for row in self._rows if (row.group, row.version) == (group, version)]
        body = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": [_resource(row) for row in rows],
        }
        return self._render(f"resources {group}/{version}", lambda: body)

    def _refresh(self) -> None:
        if self._revision != self._registry.revision:
            self._revision = self._registry.revision
            self._rows = sorted(
                [*(row for resource in self._registry for row in rows_of(resource)), *REVIEWS, *self._further]
            )
            self._rendered = {}

    def _render(self, key: str, make: Any) -> Answered:
        self._refresh()
        if key not in self._rendered:
            body = msgspec.json.encode(make())
            self._rendered[key] = Answered(body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        return self._rendered[key]

    def _of(self, *, core: bool) -> list[Row]:
        return [row for row in self._rows if bool(row.group) != core]

    def _groups(self, *, core: bool) -> dict[str, list[str]]:
        """Return the versions of each group, the preferred one first: v1 before v1beta1 before v1alpha1."""
        found: dict[str, set[str]] = {}
        for row in self._of(core=core):
            found.setdefault(row.group, set()).add(row.version)
        for group, version in () if core else self._extensions:
            found.setdefault(group, set()).add(version)
        return {group: sorted(versions, key=_preference, reverse=True) for group, versions in sorted(found.items())}


def rows_of(resource: Resource) -> Iterator[Row]:
    """Yield the rows of a resource and of those of its subresources that are served."""
    kind = resource.kind
    own = (kind.group, kind.version, kind.name)
    yield Row(
        kind.group,
        kind.version,
        kind.plural,
        "",
        own,
        kind.namespaced,
        tuple(sorted(resource.verbs)),
        kind.singular,
        kind.short_names,
        kind.categories,
    )
    for name in kind.subresources:
        if name in SUBRESOURCE_VERBS:
            answered = _RESPONSE_KINDS.get(name, own)
            verbs = SUBRESOURCE_VERBS[name]
            yield Row(kind.group, kind.version, kind.plural, name, answered, kind.namespaced, verbs)


def _aggregated(rows: Iterable[Row], groups: dict[str, list[str]]) -> Json:
    by_version = {place: list(found) for place, found in groupby(rows, key=lambda row: (row.group, row.version))}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "resources": _aggregated_resources(by_version.get((group, version), [])),
                        "freshness": "Current",
                    }
                    for version in versions
                ],
            }
            for group, versions in groups.items()
        ],
    }


def _aggregated_resources(rows: list[Row]) -> list[Json]:
    resources: dict[str, Json] = {}
    for row in rows:
        answered = dict(zip(("group", "version", "kind"), row.kind, strict=True))
        if row.subresource:
            subresource = {"subresource": row.subresource, "responseKind": answered, "verbs": row.verbs}
            resources[row.plural].setdefault("subresources", []).append(subresource)
            continue
        resources[row.plural] = {
            "resource": row.plural,
            "responseKind": answered,
            "scope": "Namespaced" if row.namespaced else "Cluster",
            "singularResource": row.singular,
            "verbs": row.verbs,
            **({"shortNames": row.short_names} if row.short_names else {}),
            **({"categories": row.categories} if row.categories else {}),
        }
    return list(resources.values())


def _group(name: str, versions: list[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resource(row: Row) -> Json:
    group, version, kind = row.kind
    return {
        "name": f"{row.plural}/{row.subresource}" if row.subresource else row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": kind,
        **({"group": group, "version": version} if (group, version) != (row.group, row.version) else {}),
        "verbs": row.verbs,
        **({"shortNames": row.short_names} if row.short_names else {}),
        **({"categories": row.categories} if row.categories else {}),
    }


def _preference(version: str) -> tuple[int, int, int]:
    """Order versions as Kubernetes does: stable, then beta, then alpha; higher numbers first."""
    head, stage, tail = version.removeprefix("v"), 2, "0"
    for word, rank in (("beta", 1), ("alpha", 0)):
        if word in head:
            head, _, tail = head.partition(word)
            stage = rank
    return stage, int(head) if head.isdigit() else 0, int(tail) if tail.isdigit() else 0
