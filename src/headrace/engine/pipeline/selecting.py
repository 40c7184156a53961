"""Which objects a list or watch is about: selectors made into one predicate, and tokens that continue a list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec

from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import Request
from headrace.engine.store.table import Match
from headrace.errors import InvalidSpec
from headrace.spec.kind import Json
from headrace.spec.selectors import Requirement, parse_fields, parse_selector, selects, selects_fields

_ANY_KIND = frozenset({"metadata.name", "metadata.namespace"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "Pod": frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    "Event": frozenset(
        {
            *(
                f"involvedObject.{part}"
                for part in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")
            ),
            *("involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"),
        }
    ),
    "Node": frozenset({"spec.unschedulable"}),
    "Namespace": frozenset({"status.phase"}),
    "Secret": frozenset({"type"}),
}
"""What a real API server lets one select by; another field is refused, because nothing would ever match it there."""


def matcher(request: Request, resource: Resource) -> Match | None:
    """Return a predicate over raw objects, None where nothing is demanded; raises BadRequest."""
    try:
        labels, fields = parse_selector(request.labels), parse_fields(request.fields)
    except InvalidSpec as error:
        raise BadRequest(error.what, hint=error.hint) from error
    known = _ANY_KIND | (_FIELDS.get(resource.kind.name, frozenset()) if resource.source == "builtin" else frozenset())
    for demand in fields:
        if demand.key not in known:
            raise BadRequest(
                f"field label not supported: {demand.key}", hint=f"Select by one of {', '.join(sorted(known))}."
            )
    if not labels and not fields:
        return None
    return _matcher(labels, fields)


def _matcher(labels: tuple[Requirement, ...], fields: tuple[Requirement, ...]) -> Match:
    by_source = any(demand.key == "source" for demand in fields)

    def matches(raw: Json) -> bool:
        if not selects(labels, raw["metadata"].get("labels") or {}):
            return False
        return selects_fields(fields, _by_component(raw) if by_source else raw)

    return matches


def _by_component(raw: Json) -> Json:
    """An Event's `source` selects by its component (kubectl's `--field-selector source=…`)."""
    source = raw.get("source")
    return raw | {"source": source.get("component", "")} if isinstance(source, dict) else raw


class Continue(msgspec.Struct, frozen=True):
    """Where a list goes on: behind this place, as of this version."""

    version: int
    namespace: str
    name: str

    @classmethod
    def read(cls, token: str) -> Continue:
        """Return the place a token names; raises BadRequest."""
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(token.encode()), type=cls)
        except (binascii.Error, msgspec.DecodeError, ValueError) as error:
            raise BadRequest("continue key is not valid", hint="List again from the beginning.") from error

    def token(self) -> str:
        """Return it as clients pass it on."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def parsed_version(text: str) -> int:
    """Return a resourceVersion as a number; raises BadRequest."""
    if not text.isascii() or not text.isdecimal():
        raise BadRequest(f"resourceVersion {text!r} is invalid", hint="Use one that the server gave out.")
    return int(text)
