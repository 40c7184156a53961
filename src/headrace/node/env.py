"""A container's environment: the machine's, Services', envFrom, env with valueFrom, in that order.

Pure: ConfigMaps and Secrets named by `references` are fetched before and handed in. What is missing and not optional
raises NotFound with the sentence that the container's waiting state then shows.
Source: kubernetes `pkg/kubelet/kubelet_pods.go` (makeEnvironmentVariables).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node import downward, resources
from headrace.node.expansion import expand
from headrace.node.podspec import Container, PodSpec
from headrace.spec.kind import Json

_NO_NAME = re.compile(r"[^A-Za-z0-9]")

ObjectKind = Literal["ConfigMap", "Secret"]


class Reference(NamedTuple):
    """A ConfigMap or Secret of the pod's namespace."""

    kind: ObjectKind
    name: str


@dataclass(frozen=True)
class Around:
    """What a container's environment is made from besides its spec."""

    base: Mapping[str, str]
    """The image's own environment; for image `host`, this machine's."""
    services: Mapping[str, str]
    pod: downward.PodFacts
    allocatable: dict[str, str]
    objects: Mapping[Reference, Json | None]
    """Raw objects by reference; None for one that does not exist."""


@dataclass
class Environment:
    """The result: variables in the order in which they were set, and names from envFrom that are none."""

    variables: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def references(container: Container) -> set[Reference]:
    """Return the ConfigMaps and Secrets that the container's env and envFrom name."""
    found: set[Reference] = set()
    for source in container.raw.get("envFrom") or []:
        found |= {Reference(kind, name) for kind, name, _ in _from_sources(source)}
    for variable in container.raw.get("env") or []:
        value_from = variable.get("valueFrom") or {}
        if "configMapKeyRef" in value_from:
            found.add(Reference("ConfigMap", str(value_from["configMapKeyRef"].get("name", ""))))
        if "secretKeyRef" in value_from:
            found.add(Reference("Secret", str(value_from["secretKeyRef"].get("name", ""))))
    return found


def build(pod: PodSpec, container: Container, around: Around) -> Environment:
    """Return the container's whole environment.

    Raises:
        NotFound: a ConfigMap, Secret or key is missing that is not optional.
        InvalidSpec, Unsupported: a reference nobody can resolve, with its path.
    """
    result = Environment({**around.base, "HOSTNAME": pod.hostname, **mount_variables(container), **around.services})
    for source in container.raw.get("envFrom") or []:
        prefix = str(source.get("prefix") or "")
        for kind, name, optional in _from_sources(source):
            for key, value in _data_of(pod, Reference(kind, name), around, optional=optional).items():
                if not _is_name(prefix + key):
                    result.skipped.append(prefix + key)
                    continue
                result.variables[prefix + key] = value
    for index, variable in enumerate(container.raw.get("env") or []):
        path = f"{container.path}.env[{index}]"
        text = variable.get("value")
        value_from = variable.get("valueFrom")
        found = _value_from(pod, container, value_from, around, path) if value_from else str(text or "")
        if found is not None:
            result.variables[str(variable["name"])] = found if value_from else expand(found, result.variables)
    return result


def mount_variables(container: Container) -> dict[str, str]:
    """Return `HEADRACE_MOUNT_<VOLUME>` for each mount: where the volume is, also where the world has to relocate it."""
    return {
        f"HEADRACE_MOUNT_{_NO_NAME.sub('_', str(m['name'])).upper()}": str(m["mountPath"]) for m in container.mounts
    }


def decode_data(raw: Json, *, secret: bool) -> dict[str, bytes]:
    """Return the keys of a ConfigMap (data, binaryData) or Secret as bytes; raises InvalidSpec for broken base64."""
    encoded: Json = (raw.get("data") if secret else raw.get("binaryData")) or {}
    result = {} if secret else {key: str(value).encode() for key, value in (raw.get("data") or {}).items()}
    for key, value in encoded.items():
        try:
            result[key] = base64.b64decode(value or "", validate=False)
        except (binascii.Error, ValueError) as error:
            raise InvalidSpec(
                f"Key {key!r} of {raw.get('kind')} {raw['metadata'].get('name')} is no base64."
            ) from error
    if secret:
        result |= {key: str(value).encode() for key, value in (raw.get("stringData") or {}).items()}
    return result


def _from_sources(source: Json) -> Iterator[tuple[ObjectKind, str, bool]]:
    if "configMapRef" in source:
        yield "ConfigMap", str(source["configMapRef"].get("name", "")), bool(source["configMapRef"].get("optional"))
    if "secretRef" in source:
        yield "Secret", str(source["secretRef"].get("name", "")), bool(source["secretRef"].get("optional"))


def _data_of(pod: PodSpec, reference: Reference, around: Around, *, optional: bool) -> dict[str, str]:
    raw = around.objects.get(reference)
    if raw is None:
        if optional:
            return {}
        raise NotFound(f'{reference.kind.lower()} "{reference.name}" not found in namespace {pod.namespace}.')
    data = decode_data(raw, secret=reference.kind == "Secret")
    return {key: value.decode("utf-8", "surrogateescape") for key, value in data.items()}


def _value_from(pod: PodSpec, container: Container, source: Json, around: Around, path: str) -> str | None:
    """Return the value, or None for an optional one that is missing: the variable is then not set at all."""
    if "fieldRef" in source:
        return downward.field_value(pod, str(source["fieldRef"].get("fieldPath", "")), around.pod, path)
    if "resourceFieldRef" in source:
        return resources.field_value(pod, container, source["resourceFieldRef"], around.allocatable)
    kinds: tuple[tuple[str, ObjectKind], ...] = (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret"))
    for field_name, kind in kinds:
        if field_name in source:
            chosen: Json = source[field_name]
            optional = bool(chosen.get("optional"))
            reference = Reference(kind, str(chosen.get("name", "")))
            data = _data_of(pod, reference, around, optional=optional)
            key = str(chosen.get("key", ""))
            if key in data:
                return data[key]
            if optional:
                return None
            raise NotFound(f"couldn't find key {key} in {kind} {pod.namespace}/{reference.name}.")
    raise Unsupported(f"{path}.valueFrom.{next(iter(source), '')} is not supported by this node.")


def _is_name(name: str) -> bool:
    """Kubernetes ≥ 1.30: any printable ASCII except `=`."""
    return bool(name) and "=" not in name and name.isascii() and name.isprintable()
