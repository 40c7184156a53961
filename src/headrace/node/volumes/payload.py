"""The files of configMap, secret, downwardAPI and projected volumes, computed from objects fetched before.

Pure. Source: kubernetes `pkg/volume/{configmap,secret,projected,downwardapi}` (MakePayload, CollectData).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node import downward, resources
from headrace.node.env import Reference, decode_data
from headrace.node.podspec import PodSpec
from headrace.node.volumes.atomic import File, check_path
from headrace.spec.kind import Json

KINDS = ("configMap", "secret", "downwardAPI", "projected")
_DEFAULT_MODE = 0o644
_TOKEN_MODE = 0o600


class TokenWanted(NamedTuple):
    """A service-account token that a projected volume asks for."""

    audience: str
    expiration_s: int


@dataclass(frozen=True)
class Inputs:
    """What the files are made from."""

    objects: Mapping[Reference, Json | None]
    tokens: Mapping[TokenWanted, str]
    pod: downward.PodFacts
    allocatable: dict[str, str]


def references(volume: Json) -> set[Reference]:
    """Return the ConfigMaps and Secrets that a volume of one of `KINDS` is made from."""
    found: set[Reference] = set()
    for source in _sources(volume):
        if "configMap" in source:
            found.add(Reference("ConfigMap", str(source["configMap"].get("name", ""))))
        if "secret" in source:
            found.add(Reference("Secret", _secret_name(source["secret"])))
    return found


def tokens(volume: Json) -> set[TokenWanted]:
    """Return the tokens that a volume asks for."""
    return {_token(s["serviceAccountToken"]) for s in _sources(volume) if "serviceAccountToken" in s}


def files(pod: PodSpec, volume: Json, inputs: Inputs) -> dict[str, File]:
    """Return the volume's files by relative path; of two sources with one path the later wins.

    Raises:
        NotFound: an object or a key is missing that is not optional.
        InvalidSpec, Unsupported: a path outside of the volume, a source nobody can read.
    """
    result: dict[str, File] = {}
    for source in _sources(volume):
        result |= dict(_files_of(pod, str(volume["name"]), source, _mode(volume), inputs))
    return result


def _files_of(pod: PodSpec, name: str, source: Json, mode: int, inputs: Inputs) -> Iterator[tuple[str, File]]:
    if "configMap" in source:
        chosen = source["configMap"]
        yield from _keys(pod, Reference("ConfigMap", str(chosen.get("name", ""))), chosen, mode, inputs)
    elif "secret" in source:
        chosen = source["secret"]
        yield from _keys(pod, Reference("Secret", _secret_name(chosen)), chosen, mode, inputs)
    elif "downwardAPI" in source:
        for item in source["downwardAPI"].get("items") or []:
            text = _downward(pod, name, item, inputs)
            yield check_path(str(item["path"])), File(text.encode(), int(item.get("mode") or mode))
    elif "serviceAccountToken" in source:
        chosen = source["serviceAccountToken"]
        token = inputs.tokens[_token(chosen)]
        yield check_path(str(chosen["path"])), File(token.encode(), _TOKEN_MODE)
    else:
        raise Unsupported(f"volume {name}: projected source {next(iter(source), '')!r} is not supported by this node.")


def _keys(pod: PodSpec, reference: Reference, chosen: Json, mode: int, inputs: Inputs) -> Iterator[tuple[str, File]]:
    optional = bool(chosen.get("optional"))
    raw = inputs.objects.get(reference)
    if raw is None:
        if optional:
            return
        raise NotFound(f'{reference.kind.lower()} "{reference.name}" not found in namespace {pod.namespace}.')
    data = decode_data(raw, secret=reference.kind == "Secret")
    items = chosen.get("items")
    if not items:
        for key, content in data.items():
            yield check_path(key), File(content, mode)
        return
    for item in items:
        key = str(item["key"])
        if key in data:
            yield check_path(str(item["path"])), File(data[key], int(item.get("mode") or mode))
        elif not optional:
            raise NotFound(
                f"{reference.kind} {pod.namespace}/{reference.name} has no key {key!r}, which a volume names."
            )


def _downward(pod: PodSpec, name: str, item: Json, inputs: Inputs) -> str:
    path = f"volume {name}, item {item.get('path')}"
    if "fieldRef" in item:
        return downward.field_value(pod, str(item["fieldRef"].get("fieldPath", "")), inputs.pod, path)
    reference: Json = item.get("resourceFieldRef") or {}
    container = pod.by_name.get(str(reference.get("containerName", "")))
    if container is None:
        raise InvalidSpec(f"{path}: resourceFieldRef needs the containerName of a container of this pod.")
    return resources.field_value(pod, container, reference, inputs.allocatable)


def _sources(volume: Json) -> list[Json]:
    if "projected" in volume:
        sources: list[Json] = volume["projected"].get("sources") or []
        return sources
    return [{kind: volume[kind]} for kind in KINDS if kind in volume]


def _mode(volume: Json) -> int:
    kind = next(kind for kind in KINDS if kind in volume)
    value = volume[kind].get("defaultMode")
    return _DEFAULT_MODE if value is None else int(value)


def _secret_name(source: Json) -> str:
    """A volume's secret has `secretName`, a projection's has `name`."""
    return str(source.get("secretName") or source.get("name") or "")


def _token(source: Json) -> TokenWanted:
    return TokenWanted(str(source.get("audience") or ""), int(source.get("expirationSeconds") or 3600))
