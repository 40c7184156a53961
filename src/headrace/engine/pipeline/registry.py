"""Which kinds the server serves, by group, version and plural; those of CRDs come and go while it runs.

The registry is plain memory: the pipeline fills it at start from `headrace.spec` and keeps it in step with the
CustomResourceDefinition objects in the store. Discovery, OpenAPI and URL routing read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from headrace.errors import NotFound
from headrace.spec.kind import Json, Kind

Source = Literal["builtin", "headrace", "crd"]


class AnyView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The typed view of a kind that is known only from a CRD: nothing but what every object has."""

    api_version: str = ""
    kind: str = ""
    metadata: dict[str, Any] = {}


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One served version of one kind.

    Args:
        source: `builtin` for Kubernetes' own kinds, `headrace` for kinds of `headrace.spec` that also show as CRDs,
            `crd` for kinds registered by a CustomResourceDefinition object.
        schema: OpenAPI v3 schema of the object with `$ref` inlined, or None where nothing is known but metadata.
        stored_version: the version in which objects are kept; the others differ in `apiVersion` only.
        scale: the paths of a custom resource's `scale` subresource, None where it has none.
        is_ending: its definition is being deleted, so no more objects may be made.
        verbs: as discovery prints them.
    """

    kind: Kind[Any]
    source: Source = "builtin"
    schema: Json | None = None
    stored_version: str = ""
    scale: Json | None = None
    is_ending: bool = False
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

    @property
    def list_kind(self) -> str:
        return f"{self.kind.name}List"

    @property
    def stored_api_version(self) -> str:
        """The apiVersion under which objects are kept."""
        kind = self.kind
        return f"{kind.group}/{self.stored_version or kind.version}" if kind.group else kind.version

    @property
    def key(self) -> str:
        """Under which the store keeps the objects: the same for all versions of a kind."""
        return self.kind.resource


class Registry:
    """The kinds there are. `revision` grows with every change, so readers can cache what they made of it."""

    def __init__(self) -> None:
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self.revision = 0

    def __iter__(self) -> Iterator[Resource]:
        """All served versions, ordered by group, version and plural."""
        return iter([self._resources[key] for key in sorted(self._resources)])

    def find(self, group: str, version: str, plural: str) -> Resource:
        """Return the resource; raises NotFound with the sentence kubectl prints."""
        found = self._resources.get((group, version, plural))
        if found is None:
            raise NotFound("The server could not find the requested resource.", hint="See `kubectl api-resources`.")
        return found

    def of(self, kind: Kind[Any]) -> Resource:
        """Return the resource of a kind; raises NotFound when it is not served."""
        found = self._resources.get((kind.group, kind.version, kind.plural))
        if found is None:
            raise NotFound(
                f"The server does not serve {kind.resource}/{kind.version}.",
                hint="Install its CustomResourceDefinition first.",
            )
        return found

    def named(self, group: str, name: str, version: str = "") -> Resource | None:
        """Return the resource of a kind's name (`Pod`), as owner references have it; None when it is not served."""
        for resource in self._resources.values():
            kind = resource.kind
            if kind.group == group and kind.name == name and version in {"", kind.version}:
                return resource
        return None

    def add(self, resource: Resource) -> None:
        """Serve a kind, replacing what was served under the same group, version and plural.

        The Kind object stays the same one as long as nothing of it changes.
        """
        kind = resource.kind
        key = (kind.group, kind.version, kind.plural)
        known = self._resources.get(key)
        if known is not None and msgspec.structs.astuple(known.kind) == msgspec.structs.astuple(kind):
            resource = msgspec.structs.replace(resource, kind=known.kind)  # who follows the kind may go on
        if resource != known:
            self._resources[key] = resource
            self.revision += 1

    def remove(self, group: str, plural: str, *, keep_versions: frozenset[str] = frozenset()) -> None:
        """Stop serving a kind, all its versions but those named; idempotent."""
        gone = [key for key in self._resources if key[0] == group and key[2] == plural and key[1] not in keep_versions]
        for key in gone:
            del self._resources[key]
        self.revision += bool(gone)
