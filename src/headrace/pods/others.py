"""Pods of others as little as they matter to us: a cluster has thousands, and we count what they take of their nodes.

What is kept of a pod that is bound and not ours: its name, its node, what it requests, which claims and inline volumes it
has, its phase. That is one of few shapes, so pods share it and cost nothing but their names; and what is not kept is not
even made into objects when it is read. A pod with a label or finalizer of ours is read whole, and so is one that nobody
has bound yet, because where it may come is asked of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from headrace.spec.kind import Json
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP

_OURS = (f"{HEADRACE_GROUP}/", FLUID_GROUP.removeprefix("data."))
_SHAPES = 16_384


class _Part(msgspec.Struct, rename="camel", omit_defaults=True):
    resources: Any = None
    restart_policy: str | None = None


class _Volume(msgspec.Struct, rename="camel", omit_defaults=True):
    persistent_volume_claim: Any = None
    csi: Any = None


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    node_name: str | None = None
    containers: list[_Part] | None = None
    init_containers: list[_Part] | None = None
    volumes: list[_Volume] | None = None
    resources: Any = None
    overhead: Any = None


class _Status(msgspec.Struct):
    phase: str = ""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    finalizers: list[str] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_decode = msgspec.json.Decoder(_Pod).decode
_decode_whole = msgspec.json.Decoder(Json).decode
_encode = msgspec.json.Encoder().encode


def read_pod(content: bytes | msgspec.Raw) -> Json:
    """Return a pod from its JSON: whole, or what matters of it. `spec` and `status` of the latter are shared.

    Raises msgspec.MsgspecError for what is no pod.
    """
    pod = _decode(content)
    meta, spec = pod.metadata, pod.spec
    if not spec.node_name or _is_ours(meta):
        return _decode_whole(content)
    kept: Json = {
        "name": meta.name,
        "namespace": _shared_text(meta.namespace),
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
    }
    if meta.deletion_timestamp:
        kept["deletionTimestamp"] = meta.deletion_timestamp
    if spec.volumes:
        spec.volumes = [v for v in spec.volumes if v.persistent_volume_claim is not None or v.csi is not None] or None
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": kept,
        "spec": _shape(_encode(spec)),
        "status": _shape(_encode(pod.status)),
    }


def _is_ours(meta: _Meta) -> bool:
    return any(word in key for key in (*(meta.labels or ()), *(meta.finalizers or ())) for word in _OURS)


@lru_cache(maxsize=_SHAPES)
def _shape(content: bytes) -> Any:
    return msgspec.json.decode(content)


@lru_cache(maxsize=_SHAPES)
def _shared_text(text: str) -> str:
    return text
