"""Answers the node's driver: how is this volume mounted, and what may a pod's inline volume be?

The driver knows a volume by its attributes alone. It asks here, in a node's own process, which has no cache: a
handful of reads a mount. What a pod's attributes claim is believed only as far as the namespace the kubelet names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from headrace.cluster.protocol import Cluster
from headrace.data.client import ClientTools
from headrace.data.runtime.config import claims_of
from headrace.data.runtime.judge import Parts, Verdict, judge, publish_secret, secret_options, sources
from headrace.data.runtime.order import order_for_dataset, order_for_volume
from headrace.errors import InvalidSpec, NotFound, Unavailable
from headrace.fuse.order import MountOrder
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import (
    DATASET,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)
from headrace.spec.names import CSI_ATTRIBUTE_DATASET, CSI_ATTRIBUTE_NAMESPACE, CSI_ATTRIBUTE_PROFILE
from headrace.spec.normalise import normalise

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class InlineMount:
    """What a sidecar's data volume is for. `read_only` holds whatever the client asks."""

    name: str
    file_system_type: str
    read_only: bool


class OrderSource:
    """Reads a cluster with a node's rights."""

    def __init__(self, cluster: Cluster, tools: ClientTools) -> None:
        self._cluster = cluster
        self._tools = tools

    async def order(
        self,
        *,
        volume_id: str,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        mount_options: Sequence[str] = (),
        read_only: bool = False,
    ) -> MountOrder:
        """Return how to mount a PersistentVolume of the own driver: of a plain Dataset, or of a profile.

        Raises:
            InvalidSpec, Denied, Unsupported: the objects cannot be carried out; the sentence names them and the cure.
            Unavailable: something they need is not there yet.
        """
        dataset = attributes.get(CSI_ATTRIBUTE_DATASET)
        if dataset:
            return await self._of_dataset(Ref(attributes.get(CSI_ATTRIBUTE_NAMESPACE, ""), dataset))
        name = attributes.get(CSI_ATTRIBUTE_PROFILE, "")
        if not name:
            raise InvalidSpec(
                f"Volume {volume_id} does not say who mounts it: its volumeAttributes have no {CSI_ATTRIBUTE_PROFILE}.",
                hint="Set it to the name of a ThinRuntimeProfile.",
            )
        profile = await self._get(THIN_RUNTIME_PROFILE, Ref("", name))
        if profile is None:
            raise Unavailable(
                f"Volume {volume_id} is mounted by ThinRuntimeProfile {name}, which does not exist. Make it."
            )
        normal, _ = normalise(THIN_RUNTIME_PROFILE, profile.raw)
        return order_for_volume(
            volume_id,
            attributes,
            normal,
            secrets=secrets,
            mount_options=tuple(mount_options),
            read_only=read_only,
            tools=self._tools,
        )

    async def inline(self, *, namespace: str, dataset: str) -> InlineMount:
        """Return what a pod of `namespace` may mount in a data volume that names `dataset`. Reads no Secret: they are the
        sidecar's, which cannot start without them.

        Args:
            namespace: as the kubelet says, never as the volume's attributes say.

        Raises:
            NotFound: the namespace has no such Dataset.
            Unavailable: it is not configured; the sentence says why.
        """
        ref = Ref(namespace, dataset)
        verdict = judge(await self._parts(ref, asks_secrets=False))
        if verdict.resolved is None:
            raise _not_ready(ref, verdict)
        return InlineMount(
            name=str(ref),
            file_system_type=verdict.resolved.client.file_system_type,
            read_only=verdict.resolved.read_only,
        )

    async def _of_dataset(self, ref: Ref) -> MountOrder:
        parts = await self._parts(ref)
        verdict = judge(parts)
        if verdict.resolved is None:
            raise _not_ready(ref, verdict)
        secrets = {name: _values(doc) for name, doc in parts.secrets.items() if doc is not None}
        return order_for_dataset(sources(parts), secrets=secrets, tools=self._tools)

    async def _parts(self, ref: Ref, *, asks_secrets: bool = True) -> Parts:
        dataset = await self._get(DATASET, ref)
        if dataset is None:
            raise NotFound(f"There is no Dataset {ref}.", hint="Make it, or correct the volume's attributes.")
        runtime = await self._get(THIN_RUNTIME, ref)
        profile = str(runtime.spec.get("profileName") or "") if runtime is not None else ""
        claims = {
            name: await self._get(PERSISTENT_VOLUME_CLAIM, Ref(ref.namespace, name)) for name in claims_of(dataset.raw)
        }
        volumes = {name: await self._bound_volume(claim) for name, claim in claims.items()}
        wanted = {secret for secret, _ in secret_options(dataset.raw)}
        wanted |= {publish_secret(volume) for volume in volumes.values() if volume is not None}
        return Parts(
            dataset=dataset,
            runtime=runtime,
            profile=await self._get(THIN_RUNTIME_PROFILE, Ref("", profile)) if profile else None,
            claims=claims,
            volumes=volumes,
            secrets={
                name: await self._get(SECRET, Ref(ref.namespace, name)) for name in wanted if name and asks_secrets
            },
            asks_secrets=asks_secrets,
        )

    async def _bound_volume(self, claim: Doc[Any] | None) -> Doc[Any] | None:
        name = str(claim.spec.get("volumeName") or "") if claim is not None else ""
        return await self._get(PERSISTENT_VOLUME, Ref("", name)) if name else None

    async def _get(self, kind: Kind[T], ref: Ref) -> Doc[T] | None:
        try:
            return await self._cluster.get(kind, ref)
        except NotFound:
            return None


def _not_ready(ref: Ref, verdict: Verdict) -> Unavailable:
    return Unavailable(f"Dataset {ref} cannot be mounted: {verdict.message}")


def _values(secret: Doc[Any]) -> dict[str, bytes]:
    plain = {key: str(value).encode() for key, value in (secret.raw.get("stringData") or {}).items()}
    return {**{key: base64.b64decode(value) for key, value in (secret.raw.get("data") or {}).items()}, **plain}
