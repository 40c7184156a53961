"""What serves PersistentVolumes on a node: the one interface that a node's driver knows them by.

A node of the embedded engine runs their clients itself (`world_volumes`); on a real node each is a pod that the
controllers make (`node_volumes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from headrace.csi.broker import Broker


class PersistentVolumes(Protocol):
    """All PersistentVolumes of one node. Every verb is idempotent."""

    def stage(
        self,
        volume_id: str,
        *,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        mount_options: Sequence[str],
        read_only: bool,
    ) -> None:
        """Take note of the volume. Its client starts with the first `publish`."""
        ...

    async def publish(
        self,
        volume_id: str,
        target: str,
        *,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        read_only: bool,
        pod: Mapping[str, str],
    ) -> None:
        """Make `target` the volume; returns when it can be read. Raises `headrace.errors`, for a pod's event."""
        ...

    async def unpublish(self, volume_id: str, target: str) -> bool:
        """Take the volume off `target`; returns whether it was published there. Never waits for a client."""
        ...

    async def unstage(self, volume_id: str) -> None:
        """Forget the volume, and all that was made for it."""
        ...

    async def trouble(self, volume_id: str, target: str) -> str:
        """Return the sentence why what is published at `target` cannot be used now; empty when it can."""
        ...

    def publishes(self, volume_id: str, target: str) -> bool:
        """Tell whether the volume is published at `target`."""
        ...

    async def begin(self) -> None:
        """Take up what a driver before has left."""
        ...

    async def tend(self) -> None:
        """Look once after every mount. Waits for nothing long; called every second or so, for ever."""
        ...


MakeVolumes = Callable[[Broker], PersistentVolumes]
"""Makes them over the broker of their driver."""
