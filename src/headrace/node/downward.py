"""The downward API: fields of the pod as text, for env and for files.

Source: kubernetes `pkg/fieldpath/fieldpath.go`; Kubernetes documentation, "Downward API, available fields".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.errors import Unsupported
from headrace.node.podspec import PodSpec

_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]")


@dataclass(frozen=True)
class PodFacts:
    """What the node knows of a pod before its status is written."""

    node: str
    host_ip: str
    pod_ip: str


def field_value(pod: PodSpec, field_path: str, facts: PodFacts, path: str) -> str:
    """Return the field as text; raises Unsupported naming `path` (where the reference stands) for an unknown field."""
    subscript = _SUBSCRIPT.fullmatch(field_path)
    if subscript:
        return str((pod.meta.get(subscript[1].removeprefix("metadata.")) or {}).get(subscript[2], ""))
    match field_path:
        case "metadata.name":
            return pod.name
        case "metadata.namespace":
            return pod.namespace
        case "metadata.uid":
            return pod.uid
        case "metadata.labels":
            return _lines(pod.meta.get("labels") or {})
        case "metadata.annotations":
            return _lines(pod.meta.get("annotations") or {})
        case "spec.nodeName":
            return facts.node
        case "spec.serviceAccountName":
            return str(pod.spec.get("serviceAccountName") or "default")
        case "status.hostIP" | "status.hostIPs":
            return facts.host_ip
        case "status.podIP" | "status.podIPs":
            return facts.pod_ip
    raise Unsupported(
        f"{path} asks for the field {field_path!r}, which the downward API does not have.",
        hint="Use metadata.name, metadata.labels['key'], spec.nodeName, status.podIP, ….",
    )


def _lines(pairs: Mapping[str, str]) -> str:
    """`key="value"` lines, sorted, values quoted as Go quotes them."""
    return "\n".join(f"{key}={_quote(str(value))}" for key, value in sorted(pairs.items()))


def _quote(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'
