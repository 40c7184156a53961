"""The one interface of all mount modes, and what a mode may know of the place it injects for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headrace.data.client import ClientTools, ResolvedDataset
from headrace.spec.kind import Json


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What the cluster and the pool can do. The defaults are those of a current Kubernetes.

    Args:
        native_sidecars: init containers with `restartPolicy: Always` (Kubernetes 1.29 and later).
        native_nodes: node match expressions that together mean "has the organisation's own driver"; empty when every
            node has it.
        copy_source: the volume source that `materialise` fills. An emptyDir is one copy a pod; a node that shares
            copies between pods puts its own source here.
    """

    tools: ClientTools = field(default_factory=ClientTools)
    native_sidecars: bool = True
    native_nodes: tuple[Json, ...] = ()
    copy_source: Mapping[str, Json] = field(default_factory=lambda: {"emptyDir": {}})


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What one dataset adds to a pod: one init container and its volumes. Containers mount `data_volume`."""

    container: Json
    volumes: tuple[Json, ...]
    data_volume: str
    propagation: str = ""
    pull_secrets: tuple[str, ...] = ()


class Mode(Protocol):
    """One way to replace a claim's volume by something that works where its own driver does not run."""

    @property
    def prefix(self) -> str:
        """Return what the names of its containers begin with; a number follows."""
        ...

    def check(self, dataset: ResolvedDataset, *, read_only: bool, capabilities: Capabilities) -> None:
        """Raise InvalidSpec, Denied or Unsupported, naming the dataset and the cure, where this mode cannot help."""
        ...

    def parts(self, dataset: ResolvedDataset, index: int, *, read_only: bool, capabilities: Capabilities) -> Parts:
        """Return what dataset number `index` of a pod adds to it. Pure; the same arguments give the same parts."""
        ...
