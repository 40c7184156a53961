"""`metadata.managedFields` of every write: which rules hold for a resource, and when they are carried out.

Owners are found out after defaulting and before admission, so that what an admitter adds is nobody's, as in a real API
server. The rules themselves are `headrace.managedfields`.
"""

from __future__ import annotations

from typing import Any

from headrace.clock import Clock, format_time
from headrace.engine.openapi.ownership import owned_type
from headrace.engine.pipeline.refusals import BadRequest, Warn, invalid_options
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.engine.pipeline.request import Request
from headrace.managedfields.applying import Applied, Unfit, applied
from headrace.managedfields.elements import Malformed
from headrace.managedfields.entries import parse
from headrace.managedfields.ownership import Ownership, Reset
from headrace.managedfields.schemas import custom_type
from headrace.managedfields.types import Type
from headrace.spec.kind import Json

_MAX_NAME = 128
_GO_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_ADMITTED = {
    "Namespace": ("finalizers",),
    "Pod": ("serviceAccountName", "serviceAccount"),
    "Service": ("clusterIPs",),
}
"""Fields of `spec` that defaulting fills in here, and admission or a strategy in a real API server."""
_STATUS = frozenset({"status"})
_OF_POD_STATUS = frozenset({"deletionTimestamp", "ownerReferences"})


class Managing:
    """Keeps `managedFields` for the writer. Rules are made once for each resource and subresource."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._rules: dict[tuple[str, str, str], Ownership] = {}
        self._types: dict[tuple[str, str], Type | None] = {}
        self._revision = registry.revision

    def updated(self, old: Json | None, raw: Json, given: Any, request: Request, resource: Resource) -> Json:
        """Return an object, made or changed by anything but an apply, with its owners as they are now.

        Args:
            given: `managedFields` as the request has them.
        """
        manager = request.field_manager or request.agent
        now = "" if request.subresource == "scale" else format_time(self._clock.now())  # a real server dates none
        return managed(raw, self.rules(resource, request.subresource).after_update(old, raw, given, manager, now))

    def created(self, raw: Json, sent: Json, request: Request, resource: Resource) -> Json:
        """Return a new object with its owner.

        Args:
            raw: completed.
            sent: as the request has it. What an admitter of a real API server fills in, and defaulting here, is
                nobody's.
        """
        entries = owners(self.updated(None, _without_admitted(raw, sent, resource), owners(sent), request, resource))
        return managed(raw, entries or [])

    def applied(self, live: Json, config: Json, request: Request, resource: Resource) -> Applied:
        """Return what an apply makes of an object; raises ApplyConflict, BadRequest, Unfit."""
        metadata = config.get("metadata")
        if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
            raise BadRequest("metadata.managedFields must be nil")
        now = format_time(self._clock.now())
        rules = self.rules(resource, request.subresource)
        return applied(rules, live, config, request.field_manager, force=request.force, now=now)

    def rules(self, resource: Resource, subresource: str) -> Ownership:
        """Return the rules of a resource or of one of its subresources."""
        if self._revision != self._registry.revision:
            self._rules.clear()
            self._types.clear()
            self._revision = self._registry.revision
        kind = resource.kind
        key = (kind.resource, kind.version, subresource)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = Ownership(
                version=kind.api_version,
                types=lambda version: self._type(resource, version),
                subresource=subresource,
                reset=_reset(resource, subresource),
                is_fixed=resource.source == "builtin",
            )
        return found

    def _type(self, resource: Resource, api_version: str) -> Type | None:
        key = (resource.key, api_version)
        if key not in self._types:
            self._types[key] = self._made(resource, api_version)
        return self._types[key]

    def _made(self, resource: Resource, api_version: str) -> Type | None:
        if api_version != resource.kind.api_version:
            group, _, version = api_version.rpartition("/")
            found = self._registry.named(group, resource.kind.name, version)
            if found is None or found.key != resource.key:
                return None
            resource = found
        published = owned_type(resource.kind) if resource.source == "builtin" else None
        return published or custom_type(resource.schema)


def managed(raw: Json, entries: list[Json]) -> Json:
    """Return the object with these owners."""
    metadata = raw["metadata"]
    if entries:
        return raw | {"metadata": metadata | {"managedFields": entries}}
    return bare(raw)


def bare(raw: Json) -> Json:
    """Return the object without its owners, which are not copied, defaulted and judged along with it."""
    metadata = raw["metadata"]
    if "managedFields" not in metadata:
        return raw
    return raw | {"metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def with_sent(raw: Json, given: Any) -> Json:
    """Return the object with `managedFields` as a client sent them; raises BadRequest for what is no list of objects."""
    if given is None:
        return raw
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        raise BadRequest("metadata.managedFields must be a list of objects.")
    return raw | {"metadata": raw["metadata"] | {"managedFields": given}}


def owners(raw: Json) -> Any:
    """Return the object's owners as they stand in it."""
    return raw["metadata"].get("managedFields")


def settled(raw: Json, old: Json) -> Json:
    """Return the object, with its owners' times as before when the time of a write would be all that is new."""
    new, before = owners(raw) or (), owners(old) or ()
    if new is before or not new or len(new) != len(before):
        return raw
    if any(_timeless(entry) != _timeless(was) for entry, was in zip(new, before, strict=True) if entry is not was):
        return raw
    return old if bare(raw) == bare(old) else raw


def after_admission(raw: Json, before: Json, warn: Warn) -> Json:
    """Return the object, with the owners of before admission where an admitter has left them in disorder."""
    entries = owners(raw)
    if entries is None or entries is owners(before):
        return raw
    try:
        parse(entries)
    except Malformed as error:
        warn(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated "
            f"mutating admission controller; please fix your requests: {error}"
        )
        return managed(raw, owners(before) or [])
    return raw


def check_options(request: Request) -> None:
    """Raise InvalidSpec for a field manager that cannot be, and for an apply without one."""
    name = request.field_manager
    if request.verb == "patch" and request.patch_type == "apply":
        if not name:
            raise invalid_options("Patch", ("fieldManager", "Required value: is required for apply patch"))
    elif request.force:
        raise invalid_options("Patch", ("force", "Forbidden: may not be specified for non-apply patch"))
    verb = {"create": "Create", "update": "Update"}.get(request.verb, "Patch")
    if len(name.encode()) > _MAX_NAME:
        raise invalid_options(verb, ("fieldManager", f"Too long: may not be more than {_MAX_NAME} bytes"))
    for position, letter in enumerate(name):
        if not letter.isprintable():
            shown = _GO_ESCAPES.get(letter, f"\\x{ord(letter):02x}")
            told = name.replace(letter, shown)
            what = f'Invalid value: "{told}": invalid character U+{ord(letter):04X} (at position {position})'
            raise invalid_options(verb, ("fieldManager", what))


def unfit(error: Unfit, config: Json, resource: Resource) -> str:
    """Return the sentence of a real API server for a configuration that does not fit its kind."""
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    assert metadata is not None
    place = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    kind = resource.kind
    return f"failed to create typed patch object ({place}; {kind.group}/{kind.version}, Kind={kind.name}): {error}"


def _without_admitted(raw: Json, sent: Json, resource: Resource) -> Json:
    names = _ADMITTED.get(resource.kind.name, ()) if resource.source == "builtin" else ()
    if not names or any(name in (sent.get("spec") or {}) for name in names):
        return raw
    return raw | {"spec": {key: value for key, value in raw["spec"].items() if key not in names}}


def _timeless(entry: Json) -> Json:
    return {key: value for key, value in entry.items() if key != "time"}


def _reset(resource: Resource, subresource: str) -> Reset:
    """Return what the create and update strategies of a real API server leave as it is (`GetResetFields`)."""
    kind = resource.kind
    match subresource:
        case "status" if resource.source != "builtin":
            return Reset(fields=frozenset({"spec", "metadata"}))
        case "status":
            return Reset(fields=frozenset({"spec"}), metadata=_OF_POD_STATUS if kind.name == "Pod" else frozenset())
        case "finalize":
            return Reset(fields=_STATUS)
        case "":
            return Reset(fields=_STATUS) if kind.has_status else Reset()
    return Reset()
