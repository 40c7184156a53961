"""What the state machine needs of a Pod's spec, read once from the raw object.

The kubelet's role touches most fields of a pod, so it works on the raw JSON and keeps no typed view: a field that
nobody here reads is reported by `security.unsupported`, never dropped in silence.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from headrace.spec.kind import Json

DEFAULT_GRACE_S = 30.0

RestartPolicy = Literal["Always", "OnFailure", "Never"]
Role = Literal["init", "sidecar", "app"]
"""`sidecar`: an init container with `restartPolicy: Always` (Kubernetes' native sidecar)."""


@dataclass(frozen=True)
class Container:
    """One container of a pod; `raw` is its entry in the spec and `path` that entry's field path."""

    name: str
    role: Role
    path: str
    raw: Json

    def probe(self, kind: Literal["startupProbe", "livenessProbe", "readinessProbe"]) -> Json | None:
        """The probe as written. None for one this node cannot carry out (grpc), which `security.unsupported` names."""
        probe: Json | None = self.raw.get(kind)
        return None if self.role == "init" or probe is None or "grpc" in probe else probe

    def hook(self, kind: Literal["postStart", "preStop"]) -> Json | None:
        """The lifecycle handler as written, or None."""
        handler: Json | None = (self.raw.get("lifecycle") or {}).get(kind)
        return None if self.role == "init" else handler

    @property
    def stop_signal(self) -> int:
        """The signal that asks the container to end, `lifecycle.stopSignal`; 0 where the pod does not say."""
        name = (self.raw.get("lifecycle") or {}).get("stopSignal")
        return int(getattr(signal, str(name), signal.SIGTERM)) if name else 0

    @property
    def image(self) -> str:
        return str(self.raw.get("image") or "host")

    @property
    def mounts(self) -> list[Json]:
        mounts: list[Json] = self.raw.get("volumeMounts") or []
        return mounts

    @property
    def resources(self) -> Json:
        resources: Json = self.raw.get("resources") or {}
        return resources

    @property
    def security_context(self) -> Json:
        context: Json = self.raw.get("securityContext") or {}
        return context


class PodSpec:
    """One version of one pod. Immutable by convention, like the raw object it reads."""

    def __init__(self, raw: Json) -> None:
        self.raw = raw
        meta: Json = raw.get("metadata") or {}
        self.meta = meta
        self.uid = str(meta.get("uid", ""))
        self.namespace = str(meta.get("namespace", ""))
        self.name = str(meta.get("name", ""))
        spec: Json = raw.get("spec") or {}
        self.spec = spec
        self.status: Json = raw.get("status") or {}

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @cached_property
    def containers(self) -> tuple[Container, ...]:
        """All containers in the order they start: init containers and sidecars as written, then the app's."""
        return (*_read(self.spec, "initContainers"), *_read(self.spec, "containers"))

    @cached_property
    def by_name(self) -> Mapping[str, Container]:
        return {c.name: c for c in self.containers}

    @cached_property
    def inits(self) -> tuple[Container, ...]:
        """Init containers and sidecars, in order."""
        return tuple(c for c in self.containers if c.role != "app")

    @cached_property
    def sidecars(self) -> tuple[Container, ...]:
        return tuple(c for c in self.containers if c.role == "sidecar")

    @cached_property
    def apps(self) -> tuple[Container, ...]:
        return tuple(c for c in self.containers if c.role == "app")

    @property
    def restart_policy(self) -> RestartPolicy:
        policy: RestartPolicy = self.spec.get("restartPolicy") or "Always"
        return policy

    @property
    def grace_s(self) -> float:
        """terminationGracePeriodSeconds."""
        return _number(self.spec.get("terminationGracePeriodSeconds"), DEFAULT_GRACE_S)

    @property
    def active_deadline_s(self) -> float | None:
        value = self.spec.get("activeDeadlineSeconds")
        return None if value is None else float(value)

    @property
    def is_deleting(self) -> bool:
        return bool(self.meta.get("deletionTimestamp"))

    @property
    def deletion_grace_s(self) -> float:
        """The grace of the deletion that was asked for; only meaningful while `is_deleting`."""
        return _number(self.meta.get("deletionGracePeriodSeconds"), self.grace_s)

    @property
    def phase(self) -> str:
        """The phase as the API server last knew it."""
        return str(self.status.get("phase") or "Pending")

    @property
    def is_terminal(self) -> bool:
        return self.phase in {"Succeeded", "Failed"}

    @property
    def security_context(self) -> Json:
        context: Json = self.spec.get("securityContext") or {}
        return context

    @cached_property
    def volumes(self) -> Mapping[str, Json]:
        """Volume sources by volume name."""
        return {str(volume["name"]): volume for volume in self.spec.get("volumes") or []}

    @cached_property
    def mounted_volumes(self) -> frozenset[str]:
        """Names of volumes that some container mounts; the others are neither waited for nor mounted."""
        return frozenset(str(mount["name"]) for container in self.containers for mount in container.mounts)

    @property
    def hostname(self) -> str:
        """The pod's host name: `spec.hostname`, else its name cut to 63 characters as kubelet cuts it."""
        return str(self.spec.get("hostname") or self.name[:63].rstrip("-."))

    @property
    def subdomain(self) -> str:
        return str(self.spec.get("subdomain") or "")


def _read(spec: Json, field: str) -> list[Container]:
    found: list[Container] = []
    for index, raw in enumerate(spec.get(field) or []):
        role: Role = "app"
        if field == "initContainers":
            role = "sidecar" if raw.get("restartPolicy") == "Always" else "init"
        found.append(Container(name=str(raw["name"]), role=role, path=f"spec.{field}[{index}]", raw=raw))
    return found


def _number(value: Any, default: float) -> float:
    return default if value is None else float(value)
