"""NodeMount: what a node's volume driver asks of the controllers, a client's pod, and what they answer.

No user writes one. It is cluster-scoped as CSINode and VolumeAttachment are: nodes have no namespace, and nobody's rights
in a namespace reach it.
"""

from __future__ import annotations

from headrace.spec.core.meta import Condition, ObjectMeta
from headrace.spec.view import View


class NodeMountDataset(View, frozen=True, kw_only=True):
    """A Dataset."""

    namespace: str
    """Its namespace, where the client's pod is made too."""
    name: str
    """Its name."""


class NodeMountSpec(View, frozen=True, kw_only=True):
    """Which mount is wanted where."""

    node_name: str
    """The node whose driver asks; it can ask for no other."""
    dataset: NodeMountDataset
    """The Dataset that pods of this node mount by a PersistentVolume."""
    read_only: bool = False
    """Whether the mount is read-only. Readers and writers of a Dataset have clients of their own."""


class NodeMountClient(View, frozen=True, kw_only=True):
    """The pod that serves the mount."""

    name: str
    """Its name, in the Dataset's namespace."""
    uid: str
    """Its uid: the driver shows other pods what this very pod mounts, and nothing else."""


class NodeMountStatus(View, frozen=True, kw_only=True):
    """What came of it."""

    client: NodeMountClient | None = None
    """The client's pod, once there is one on the node."""
    conditions: tuple[Condition, ...] = ()
    """Ready: whether the client serves, and if not, why, with its own last words."""
    observed_generation: int | None = None
    """The metadata.generation the status is about."""


class NodeMount(View, frozen=True, kw_only=True):
    """A Dataset's mount on a node, shared by all pods there. Made and deleted by the node's volume driver."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeMountSpec
    status: NodeMountStatus = NodeMountStatus()
