"""CustomResourceDefinition objects, and the kinds the server serves because of them.

A definition is judged (names accepted, established) while it is written and served as soon as it is stored, so nobody
has to wait for its condition. The kinds of `headrace.spec` show as definitions too, so that `kubectl get crd` lists
them, but are served as the code has them: their definitions belong to the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.clock import Clock
from headrace.engine.pipeline import schema_check
from headrace.engine.pipeline.refusals import Warn, invalid
from headrace.engine.pipeline.registry import AnyView, Registry, Resource
from headrace.engine.pipeline.request import LOOPBACK, User
from headrace.errors import Denied
from headrace.spec.conditions import is_true, set_condition
from headrace.spec.kind import Column, Json, Kind
from headrace.spec.kinds import CRD

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
"""On definitions by users: their objects are deleted before the definition goes."""
_AGE = Column("Age", ".metadata.creationTimestamp", "date")


class Definitions:
    """Keeps the registry in step with the definitions that are written."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock

    def judged(self, raw: Json, old: Json | None, resource: Resource, user: User) -> Json:
        """Return a definition with its status; anything else as it is.

        Raises Denied for definitions of kinds that the server serves by itself.
        """
        if resource.kind is not CRD:
            return raw
        spec = raw.get("spec") or {}
        if user is not LOOPBACK and old is not None and old.get("spec") != spec and self.is_servers_own(raw):
            raise Denied(
                f"{raw['metadata'].get('name')} is served by Headrace itself; its definition cannot be changed.",
                hint="Choose another group for a kind of your own.",
            )
        if old is None and not self.is_servers_own(raw):
            finalizers = [*(raw["metadata"].get("finalizers") or ()), CLEANUP_FINALIZER]
            raw = raw | {"metadata": raw["metadata"] | {"finalizers": finalizers}}
        if old is not None and old.get("spec") == spec:
            return raw
        return raw | {"status": self._status(raw, (old or {}).get("status") or {})}

    def check(self, raw: Json, resource: Resource, warn: Warn) -> None:
        """Refuse a definition that could not be served, and tell what of it is not carried out."""
        if resource.kind is not CRD or self.is_servers_own(raw):
            return
        found = list(schema_check.problems(raw))
        if found:
            raise invalid(CRD, raw["metadata"].get("name") or "", *found)
        for sentence in schema_check.warnings(raw):
            warn(sentence)

    def stored(self, raw: Json, resource: Resource) -> None:
        """Serve what a stored definition defines, and no longer what it does not."""
        if resource.kind is not CRD or self.is_servers_own(raw):
            return
        if is_true((raw.get("status") or {}).get("conditions"), "Established"):
            found = list(resources_of(raw))
            for defined in found:
                self._registry.add(defined)
            kept = frozenset(defined.kind.version for defined in found)
            self._registry.remove(raw["spec"]["group"], raw["spec"]["names"]["plural"], keep_versions=kept)

    def removed(self, raw: Json, resource: Resource) -> None:
        """Stop serving what a definition defined that is gone."""
        if resource.kind is CRD and not self.is_servers_own(raw):
            self._registry.remove(raw["spec"]["group"], raw["spec"]["names"]["plural"])

    def is_servers_own(self, raw: Json) -> bool:
        """Tell whether a definition is of a kind that the server serves by itself."""
        spec = raw.get("spec") or {}
        group, plural = spec.get("group"), (spec.get("names") or {}).get("plural")
        return any(
            resource.source != "crd" and resource.kind.group == group and resource.kind.plural == plural
            for resource in self._registry
        )

    def _status(self, raw: Json, before: Json) -> Json:
        spec, now = raw.get("spec") or {}, self._clock.now()
        names = spec.get("names") or {}
        reason, clash = ("", "") if self.is_servers_own(raw) else self._clash(spec.get("group", ""), names)
        conditions = before.get("conditions")
        if clash:
            conditions = set_condition(conditions, "NamesAccepted", "False", reason, clash, now)
            conditions = set_condition(
                conditions, "Established", "False", "NotAccepted", "not all names are accepted", now
            )
            accepted: Json = before.get("acceptedNames") or {"kind": "", "plural": ""}
        else:
            conditions = set_condition(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
            message = "the initial names have been accepted"
            conditions = set_condition(conditions, "Established", "True", "InitialNamesAccepted", message, now)
            accepted = names
        kept = [version.get("name") for version in spec.get("versions") or () if version.get("storage")]
        stored = list(dict.fromkeys([*(before.get("storedVersions") or ()), *kept]))
        return {"conditions": conditions, "acceptedNames": accepted, "storedVersions": stored}

    def _clash(self, group: str, names: Json) -> tuple[str, str]:
        """Return reason and message about a name that another kind of the group has already; empty when all are free.

        Of several the last is told (apiextensions-apiserver, `naming_controller.go`).
        """
        resources: set[str] = set()
        kinds: set[str] = set()
        for other in self._registry:
            if other.kind.group == group and other.kind.plural != names.get("plural"):
                resources |= {other.kind.plural, other.kind.singular, *other.kind.short_names}
                kinds |= {other.kind.name, other.list_kind}
        wanted = (
            ("PluralConflict", [names.get("plural")], resources),
            ("SingularConflict", [names.get("singular")], resources),
            ("ShortNamesConflict", names.get("shortNames") or [], resources),
            ("KindConflict", [names.get("kind")], kinds),
            ("ListKindConflict", [names.get("listKind") or f"{names.get('kind')}List"], kinds),
        )
        told = ("", "")
        for reason, asked, taken in wanted:
            clashing = [f'"{name}" is already in use' for name in asked if name in taken]
            if clashing:
                told = (reason, clashing[0] if len(clashing) == 1 else f"[{', '.join(clashing)}]")
        return told


def resources_of(crd: Json) -> Iterator[Resource]:
    """Yield a resource for each served version of a definition."""
    spec = crd["spec"]
    names = spec["names"]
    storage = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        kind: Kind[Any] = Kind(
            group=spec["group"],
            version=version["name"],
            name=names["kind"],
            plural=names["plural"],
            view=AnyView,
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=tuple(name for name in ("status", "scale") if name in subresources),
            columns=tuple(map(_column, version.get("additionalPrinterColumns") or ())) or (_AGE,),
        )
        yield Resource(
            kind=kind,
            source="crd",
            schema=(version.get("schema") or {}).get("openAPIV3Schema"),
            stored_version=storage,
            scale=subresources.get("scale"),
            is_ending=bool(crd["metadata"].get("deletionTimestamp")),
        )


def _column(raw: Json) -> Column:
    return Column(
        name=raw["name"],
        json_path=raw["jsonPath"],
        type=raw.get("type", "string"),
        wide=bool(raw.get("priority")),
        description=raw.get("description", ""),
    )
