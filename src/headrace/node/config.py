"""What one node is told about itself by whoever starts its agent."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from headrace.node.images.registries import Mirror
from headrace.spec.kind import Json
from headrace.units import format_bytes

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_PODS = 110


def measured_capacity() -> dict[str, str]:
    """Return this machine's cpu, memory and disk as a Node's capacity shows them."""
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": format_bytes(psutil.virtual_memory().total // 1024 * 1024),
        "ephemeral-storage": format_bytes(psutil.disk_usage("/").total // 1024 * 1024),
        "pods": str(_MOST_PODS),
    }


@dataclass(frozen=True)
class NodeConfig:
    """One node.

    Attributes:
        directory: the node's world's directory; pods live in `pods` beneath it.
        closed: a directory no container may see: the whole installation.
        pod_network: addresses for pods, of 127.0.0.0/8, overlapping with no other node of this machine; empty gives
            all pods the node's own address, as pods with hostNetwork have it.
        capacity: the Node's capacity; allocatable is the same unless given.
        registers: whether the agent makes the Node object; else somebody with more rights has made it.
        parks_daemon_sets: whether pods of DaemonSets are left Pending (`parking`).
        sees_all_pods: whether the agent may read pods of other nodes, to know them by name (`peers`).
        port: where the node's HTTPS endpoint listens on `host_ip`.
        mirrors: where images are looked for before the registries that their names say.
        base_environment: what containers of image `host` have before their own env.
    """

    name: str
    directory: Path
    closed: Path
    pod_network: str
    capacity: Mapping[str, str] = field(default_factory=measured_capacity)
    allocatable: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Json] = ()
    registers: bool = True
    mirrors: Sequence[Mirror] = ()
    sees_all_pods: bool = True
    parks_daemon_sets: bool = False
    host_ip: str = "127.0.0.1"
    port: int = 10250
    base_environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": _PATH, "HOME": "/tmp", "LANG": "C.UTF-8"}
    )

    @property
    def pods(self) -> Path:
        return self.directory / "pods"

    @property
    def images(self) -> Path:
        return self.directory / "images"

    @property
    def offered(self) -> dict[str, str]:
        """Allocatable."""
        return dict(self.capacity if self.allocatable is None else self.allocatable)

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels every kubelet sets, and this node's own."""
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
            **self.labels,
        }
