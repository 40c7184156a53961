"""What a volume driver does for the kubelet's role: CSI's node verbs with plain arguments.

`headrace.csi` satisfies this protocol without importing it, and other drivers may. All verbs are idempotent: a
kubelet repeats them after a restart, and several of one volume may come at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class VolumeDriver(Protocol):
    """One driver on one node. Every verb raises `headrace.errors` with a sentence for the pod's FailedMount event."""

    name: str
    persistent: bool
    """Serves PersistentVolumes (`stage` before the first `publish`, `unstage` after the last `unpublish`)."""
    ephemeral: bool
    """Serves inline volumes of pods (`publish` and `unpublish` only)."""

    async def stage(
        self,
        *,
        volume_id: str,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        mount_options: Sequence[str],
        read_only: bool,
        fs_type: str,
    ) -> None:
        """Make the volume available on this node (NodeStageVolume)."""
        ...

    async def publish(
        self,
        *,
        volume_id: str,
        target: str,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        read_only: bool,
        pod: Mapping[str, str],
    ) -> None:
        """Make `target`, a directory in the world, the volume (NodePublishVolume).

        Args:
            pod: what only the kubelet can know: name, namespace, uid, service_account, node, ephemeral ("true"/"false").
        """
        ...

    async def unpublish(self, *, volume_id: str, target: str) -> None:
        """Undo `publish` (NodeUnpublishVolume)."""
        ...

    async def unstage(self, *, volume_id: str) -> None:
        """Undo `stage` (NodeUnstageVolume)."""
        ...

    async def healthy(self, *, volume_id: str, target: str) -> str:
        """Return the sentence why the volume at `target` cannot be used now; empty when it can."""
        ...
