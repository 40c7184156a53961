"""Content negotiation: which form of an answer the client accepts first.

JSON is what the façade speaks, in four forms: the object itself, a Table, or its metadata alone, for one object or a
list. YAML is given to those who ask for nothing else. Protobuf and CBOR are never given: a client that accepts nothing
else gets 406, as Kubernetes' own clients expect of custom resources.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from headrace.engine.facade.refusals import NotAcceptable

As = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
_AS: dict[str, As] = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadataList",
}
_JSON = {"application/json", "application/*", "*/*"}
_YAML = {"application/yaml"}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Form(NamedTuple):
    """The form chosen: `transform` names a meta.k8s.io type, empty for the object itself; `version` is the type's."""

    transform: As = ""
    version: str = "v1"
    is_yaml: bool = False


class MediaRange(NamedTuple):
    """One part of an Accept header."""

    type: str
    parameters: dict[str, str]


@lru_cache(maxsize=256)
def form(accept: str) -> Form:
    """Return the first form in `accept` that can be made; raises NotAcceptable when there is none."""
    for media, parameters in ranges(accept):
        if media not in _JSON | _YAML:
            continue
        target = parameters.get("as", "")
        if not target:
            return Form(is_yaml=media in _YAML)
        if target in _AS and parameters.get("g") == "meta.k8s.io" and parameters.get("v") in {"v1", "v1beta1"}:
            return Form(_AS[target], parameters["v"], media in _YAML)
    raise NotAcceptable(
        f"None of the media types {accept!r} can be made here.",
        hint="Accept application/json; protobuf and CBOR are not served.",
    )


@lru_cache(maxsize=64)
def wants_aggregated_discovery(accept: str) -> bool:
    """Tell whether the client accepts discovery in one document before it accepts the old form."""
    for media, parameters in ranges(accept):
        if media in _JSON:
            if not parameters.get("as"):
                return False
            if parameters.get("as") == "APIGroupDiscoveryList" and parameters.get("v") == "v2":
                return True
    return False


def ranges(accept: str) -> list[MediaRange]:
    """Return the parts of an Accept header, best first; an empty header accepts everything."""
    found: list[tuple[float, MediaRange]] = []
    for part in (accept or "*/*").split(","):
        media, *rest = (piece.strip() for piece in part.split(";"))
        parameters = dict(piece.split("=", 1) for piece in rest if "=" in piece)
        found.append((_quality(parameters.pop("q", "1")), MediaRange(media.lower(), parameters)))
    return [media for quality, media in sorted(found, key=lambda pair: -pair[0]) if quality > 0]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
