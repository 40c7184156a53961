"""What a URL names: a group and version, a resource, an object, a subresource (Kubernetes API concepts, Resource URIs)."""

from __future__ import annotations

from typing import NamedTuple

from headrace.errors import NotFound


class Target(NamedTuple):
    """The parts of a resource URL; what follows the subresource `proxy` is left out."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


_OF_NAMESPACE = {"status", "finalize"}


def parse(path: str) -> Target:
    """Return what `path` names; raises NotFound for a path that is no resource."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise not_found()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and (rest[2] not in _OF_NAMESPACE or group):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource, *beyond = [*rest, "", ""][: max(3, len(rest))]
    if not plural or (beyond and subresource != "proxy"):
        raise not_found()
    return Target(group, version, plural, namespace, name, subresource)


def not_found() -> NotFound:
    return NotFound("The server could not find the requested resource.", hint="See `kubectl api-resources`.")
