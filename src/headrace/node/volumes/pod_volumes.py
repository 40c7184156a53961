"""The volumes of pods on this node: made before a container starts, kept fresh, undone after the last one ended.

Only volumes that some container mounts are made; a claim that stands in the pod for its protection alone is not even
looked at. Everything here may be repeated: after an error, after a crash, after the world was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio

from headrace.cluster.protocol import Cluster
from headrace.errors import HeadraceError, InvalidSpec, NotFound, Unsupported
from headrace.node import resources
from headrace.node.downward import PodFacts
from headrace.node.env import Reference, decode_data
from headrace.node.podspec import PodSpec
from headrace.node.tokens import Tokens
from headrace.node.volumes import atomic, claims, hostpath, payload
from headrace.node.volumes.places import Note, PodPlace
from headrace.node.volumes.published import PublishedVolumes
from headrace.node.world import World
from headrace.spec.kind import Json, Kind, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.units import parse_quantity


class MountFailed(HeadraceError):
    """A pod's volumes cannot be mounted now. The sentence names each volume and says why."""

    code = "FailedMount"
    http_status = 503


class Objects(Protocol):
    """ConfigMaps and Secrets, kept as long as a pod uses them."""

    async def get(self, reference: Reference, namespace: str, user: str) -> Json | None:
        """Return the raw object as it is now, None when there is none; `user` is the pod that will hear of changes."""
        ...


@dataclass(frozen=True)
class Source:
    """Where a container finds a volume.

    Args:
        is_shared_path: a path of the machine that the pod did not make.
        heals: its driver may put a new mount over a dead one, which must reach containers that run.
    """

    path: str
    read_only: bool = False
    is_shared_path: bool = False
    heals: bool = False


class PodVolumes:
    """Makes and undoes volumes.

    Args:
        pods: directory of all pods' places.
        closed: a directory no hostPath may lead into (the whole installation).
        allocatable: the node's, for resourceFieldRef.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        world: World,
        objects: Objects,
        tokens: Tokens,
        published: PublishedVolumes,
        pods: Path,
        closed: str,
        allocatable: dict[str, str],
    ) -> None:
        self._cluster = cluster
        self._world = world
        self._objects = objects
        self._tokens = tokens
        self._published = published
        self._pods = pods
        self._closed = closed
        self._allocatable = allocatable

    async def mount(self, pod: PodSpec, facts: PodFacts) -> dict[str, Source]:
        """Make all volumes that containers mount, side by side, and return where they are. Idempotent.

        Raises:
            MountFailed: some could not be made; those that could stay, for the next try.
        """
        PodPlace(self._pods, pod.uid).make()
        sources: dict[str, Source] = {}
        troubles: dict[str, HeadraceError] = {}

        async def one(name: str) -> None:
            try:
                sources[name] = await self._mount(pod, name, facts)
            except HeadraceError as error:
                troubles[name] = error

        async with anyio.create_task_group() as tasks:
            for name in sorted(pod.mounted_volumes):
                tasks.start_soon(one, name)
        if troubles:
            raise MountFailed(" ".join(f'MountVolume failed for volume "{n}": {troubles[n]}' for n in sorted(troubles)))
        return sources

    async def refresh(self, pod: PodSpec, facts: PodFacts) -> None:
        """Bring volumes made from objects, fields and tokens up to date; what cannot be read now keeps its old content."""
        for name in sorted(pod.mounted_volumes):
            volume = pod.volumes.get(name) or {}
            if any(kind in volume for kind in payload.KINDS):
                await self._files(pod, volume, facts)

    async def unmount(self, uid: str) -> None:
        """Undo every volume of a pod, from the notes on disk; the pod itself need not be known any more. Idempotent."""
        place = PodPlace(self._pods, uid)
        for name, note in list(place.notes()):
            if note.driver:
                await self._published.undo(uid, name, note)
            else:
                target = str(place.mount(name))
                await self._world.request("mount.unmount", target=target, all=True, lazy=True)
                place.forget(name)
        self._tokens.forget(uid)

    async def _mount(self, pod: PodSpec, name: str, facts: PodFacts) -> Source:
        volume = pod.volumes.get(name)
        if volume is None:
            raise InvalidSpec(f"The pod has no volume {name}, which one of its containers mounts.")
        if any(kind in volume for kind in payload.KINDS):
            return await self._files(pod, volume, facts)
        ways: Mapping[str, Callable[[PodSpec, Json], Awaitable[Source]]] = {
            "emptyDir": self._empty_dir,
            "hostPath": self._host_path,
            "persistentVolumeClaim": self._claim,
            "ephemeral": self._claim,
            "csi": self._inline,
        }
        for kind, way in ways.items():
            if kind in volume:
                return await way(pod, volume)
        kind = next((key for key in volume if key != "name"), "nothing")
        if kind == "nothing":
            return await self._empty_dir(pod, {**volume, "emptyDir": {}})
        raise Unsupported(f"spec.volumes[{name}].{kind} is not supported by this node; use a claim, csi or hostPath.")

    async def _files(self, pod: PodSpec, volume: Json, facts: PodFacts) -> Source:
        inputs = payload.Inputs(
            objects={r: await self._objects.get(r, pod.namespace, pod.uid) for r in payload.references(volume)},
            tokens={wanted: await self._tokens.get(pod, wanted) for wanted in payload.tokens(volume)},
            pod=facts,
            allocatable=self._allocatable,
        )
        path = PodPlace(self._pods, pod.uid).make_volume(str(volume["name"]))
        atomic.write(path, payload.files(pod, volume, inputs))
        return Source(path, read_only=True)

    async def _empty_dir(self, pod: PodSpec, volume: Json) -> Source:
        place, name = PodPlace(self._pods, pod.uid), str(volume["name"])
        path = place.make_volume(name, 0o777)
        settings: Json = volume.get("emptyDir") or {}
        medium = str(settings.get("medium") or "")
        if medium not in {"", "Memory"}:
            raise Unsupported(f"emptyDir medium {medium!r} is not supported by this node; use Memory or none.")
        if medium == "Memory":
            place.note(name, Note())
            size = _memory_bytes(pod, settings.get("sizeLimit"))
            await self._world.request("mount.tmpfs", target=path, mode=0o1777, size_bytes=size)
        return Source(path)

    async def _host_path(self, _pod: PodSpec, volume: Json) -> Source:
        settings: Json = volume["hostPath"]
        path = hostpath.prepare(str(settings.get("path", "")), str(settings.get("type") or ""), self._closed)
        return Source(path, is_shared_path=True)

    async def _claim(self, pod: PodSpec, volume: Json) -> Source:
        claim = await self._get(PERSISTENT_VOLUME_CLAIM, Ref(pod.namespace, claims.claim_name(pod, volume)))
        bound = await self._get(PERSISTENT_VOLUME, Ref("", claims.check_claim(pod, volume, claim)))
        assert claim is not None
        wish = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
        source = claims.source_of(claim, bound, read_only=wish)
        if isinstance(source, claims.Directory):
            if not Path(source.path).is_dir():
                raise NotFound(f"the volume's directory {source.path} is not on this node.")
            return Source(source.path, source.read_only)
        self._published.driver(source.driver)
        path = await self._published.publish_persistent(
            pod,
            str(volume["name"]),
            source,
            await self._secret(source.stage_secret),
            await self._secret(source.publish_secret),
        )
        return Source(path, source.read_only, heals=True)

    async def _inline(self, pod: PodSpec, volume: Json) -> Source:
        settings: Json = volume["csi"]
        name, driver = str(volume["name"]), str(settings.get("driver", ""))
        self._published.driver(driver)
        secret = (settings.get("nodePublishSecretRef") or {}).get("name")
        read_only = bool(settings.get("readOnly"))
        path = await self._published.publish_inline(
            pod,
            name,
            driver_name=driver,
            volume_id=_inline_id(pod, driver, name),
            attributes={str(k): str(v) for k, v in (settings.get("volumeAttributes") or {}).items()},
            secrets=await self._secret((pod.namespace, str(secret)) if secret else None),
            read_only=read_only,
        )
        return Source(path, read_only)

    async def _secret(self, name: tuple[str, str] | None) -> dict[str, bytes]:
        if name is None:
            return {}
        raw = await self._objects.get(Reference("Secret", name[1]), name[0], "")
        if raw is None:
            raise NotFound(f'secret "{name[1]}" not found in namespace {name[0]}, which the volume names.')
        return decode_data(raw, secret=True)

    async def _get(self, kind: Kind[Any], ref: Ref) -> Json | None:
        try:
            return (await self._cluster.get(kind, ref)).raw
        except NotFound:
            return None


def _inline_id(pod: PodSpec, driver: str, name: str) -> str:
    """Kubelet's own: stable for a pod, different for any other."""
    return f"csi-{hashlib.sha256(f'{name}{pod.namespace}{pod.uid}{driver}'.encode()).hexdigest()}"


def _memory_bytes(pod: PodSpec, size_limit: str | int | None) -> int:
    """The size of a memory-backed emptyDir: its limit, and never more than the pod's own memory; 0 is the kernel's."""
    limits = [resources.quantity(c, "limits", "memory") for c in pod.apps]
    sizes = [] if size_limit is None else [int(parse_quantity(size_limit))]
    if limits and all(limits):
        sizes.append(int(sum(limit for limit in limits if limit)))
    return min(sizes, default=0)
