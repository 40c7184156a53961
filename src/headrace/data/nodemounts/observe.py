"""Reads everything the NodeMounts of a Dataset hang on from the cache, and whom a changed object concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from headrace.cluster.cache import Cache
from headrace.data.nodemounts.daemon import daemon_name
from headrace.data.nodemounts.plan import Observed, dataset_of
from headrace.data.runtime.judge import judge
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.volume import named_dataset
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import (
    DAEMON_SET,
    NODE,
    NODE_MOUNT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
)
from headrace.spec.names import DATASET_LABEL, NODE_CLIENT_LABEL

_OF_DATASET = "data/nodemounts"
_OF_CLAIM = "data/nodemounts/claims"
_FINISHED = ("Succeeded", "Failed")


class MountObserver:
    """Registers its indexes in the cache when made; make one a cache."""

    def __init__(self, cache: Cache, datasets: DatasetObserver) -> None:
        cache.add_index(NODE_MOUNT, _OF_DATASET, lambda mount: [str(dataset_of(mount))])
        cache.add_index(PERSISTENT_VOLUME, _OF_DATASET, _volume_dataset)
        cache.add_index(POD, _OF_DATASET, _client_dataset)
        cache.add_index(POD, _OF_CLAIM, _claims)
        self._datasets = datasets
        self._mounts = cache.reader(NODE_MOUNT)
        self._daemons = cache.reader(DAEMON_SET)
        self._pods = cache.reader(POD)
        self._nodes = cache.reader(NODE)
        self._claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        self._volumes = cache.reader(PERSISTENT_VOLUME)

    def concerns(self, ref: Ref) -> bool:
        """Tell whether nodes ask for a Dataset, or did; of most nobody asks for anything."""
        return bool(self._mounts.by_index(_OF_DATASET, str(ref))) or any(self._daemons_of(ref).values())

    def observe(self, ref: Ref) -> Observed:
        """Return what there is for one Dataset."""
        parts = self._datasets.parts(ref)
        verdict = judge(parts) if parts is not None else None
        return Observed(
            ref=ref,
            dataset=parts.dataset if parts is not None else None,
            resolved=verdict.resolved if verdict is not None else None,
            why_not=f"Dataset {ref} cannot be mounted: {verdict.message}" if verdict is not None else "",
            mounts=tuple(self._mounts.by_index(_OF_DATASET, str(ref))),
            daemons={read_only: daemon for read_only, daemon in self._daemons_of(ref).items() if daemon is not None},
            pods=tuple(self._pods.by_index(_OF_DATASET, str(ref))),
            nodes=frozenset(node.name for node in self._nodes.list()),
            users=frozenset(self._users(ref)),
        )

    def _daemons_of(self, ref: Ref) -> dict[bool, Doc[Any] | None]:
        names = {read_only: Ref(ref.namespace, daemon_name(ref, read_only=read_only)) for read_only in (True, False)}
        return {read_only: self._daemons.get(name) for read_only, name in names.items()}

    def _users(self, ref: Ref) -> Iterator[str]:
        """Yield the nodes with a pod that mounts the Dataset by a claim, which must be of its own namespace."""
        for volume in self._volumes.by_index(_OF_DATASET, str(ref)):
            claim = volume.spec.get("claimRef") or {}
            if claim.get("namespace") != ref.namespace:
                continue
            for pod in self._pods.by_index(_OF_CLAIM, f"{ref.namespace}/{claim.get('name')}"):
                node = pod.spec.get("nodeName")
                if node and pod.status.get("phase") not in _FINISHED:
                    yield str(node)

    # -- whom a change concerns ------------------------------------------------------------------------------------

    def of_mount(self, mount: Doc[Any]) -> Iterable[Ref]:
        return [dataset_of(mount)]

    def of_daemon(self, daemon: Doc[Any]) -> Iterable[Ref]:
        """The Dataset that it serves, by the label that we put on it."""
        name = daemon.labels.get(DATASET_LABEL)
        return [Ref(daemon.namespace, name)] if name and NODE_CLIENT_LABEL in daemon.labels else []

    def of_node(self, node: Doc[Any]) -> Iterable[Ref]:
        """Every Dataset that is asked for there; few have any."""
        return {dataset_of(mount) for mount in self._mounts.list() if mount.spec.get("nodeName") == node.name}

    def of_pod(self, pod: Doc[Any]) -> Iterator[Ref]:
        """The Dataset it serves, or those it mounts by claims of our driver."""
        if NODE_CLIENT_LABEL in pod.labels:
            yield Ref(pod.namespace, pod.labels.get(DATASET_LABEL, ""))
        for name in _claims(pod):
            claim = self._claims.get(Ref(pod.namespace, name.partition("/")[2]))
            volume = self._volumes.get(Ref("", str(claim.spec.get("volumeName") or ""))) if claim is not None else None
            dataset = named_dataset(volume) if volume is not None else None
            if dataset is not None:
                yield dataset


def _volume_dataset(volume: Doc[Any]) -> Iterable[str]:
    dataset = named_dataset(volume)
    return [str(dataset)] if dataset is not None else []


def _client_dataset(pod: Doc[Any]) -> Iterable[str]:
    name = pod.labels.get(DATASET_LABEL)
    return [f"{pod.namespace}/{name}"] if name and NODE_CLIENT_LABEL in pod.labels else []


def _claims(pod: Doc[Any]) -> Iterable[str]:
    sources = [volume.get("persistentVolumeClaim") or {} for volume in pod.spec.get("volumes") or []]
    return {f"{pod.namespace}/{source['claimName']}" for source in sources if source.get("claimName")}
