"""Whether a pod may have the PersistentVolume that the kubelet publishes for it: looked up, never believed.

Only a cluster's administrator makes PersistentVolumes, but a claim is a tenant's, and a kubelet's word may be late. So pod,
claim and volume are read from the API: that very pod (uid), bound to this node, not ended; one of its volumes a claim that is
bound to a volume of ours with this handle, bound back to that very claim (uid); and the Dataset it names one of the pod's own
namespace. There are no grants across namespaces in this version.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.cluster.protocol import Cluster
from headrace.csi.permit import Terms, TermsOf, why_not_on_this_node
from headrace.errors import Denied, NotFound, Unsupported
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD
from headrace.spec.names import CSI_ATTRIBUTE_DATASET, CSI_ATTRIBUTE_NAMESPACE, CSI_DRIVER


@dataclass(frozen=True, kw_only=True)
class ClaimRequest:
    """One PersistentVolume, as the kubelet publishes it for a pod.

    Args:
        volume_id: the volume's handle.
        attributes: of the volume, as the kubelet says.
    """

    volume_id: str
    attributes: Mapping[str, str]
    pod: str
    namespace: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a pod may mount. `read_only` where nobody may write, or no container of the pod asks to."""

    dataset: Ref
    read_only: bool


PermitClaim = Callable[[ClaimRequest], Awaitable[Use]]
"""Returns what the pod may mount; raises `headrace.errors` with a sentence for the pod's FailedMount event."""


class ClaimPermit:
    """Looks up pod, claim, volume and Dataset. One for a node; call it as a `PermitClaim`.

    Args:
        cluster: reads pods, claims and volumes.
        node: the name of this node.
    """

    def __init__(self, cluster: Cluster, node: str, terms_of: TermsOf) -> None:
        self._cluster = cluster
        self._node = node
        self._terms_of = terms_of

    async def __call__(self, request: ClaimRequest) -> Use:
        """Return what the pod may mount.

        Raises:
            Denied: the pod is another one, is not on this node, has ended, or has no claim that is bound to the volume;
                or the volume is of another namespace's Dataset.
            NotFound: there is no such Dataset.
            Unsupported: the volume is a profile's and no Dataset's.
            Unavailable: the API does not answer, or the Dataset is not configured yet.
        """
        name = f"{request.namespace}/{request.pod}"
        try:
            pod = await self._cluster.get(POD, Ref(request.namespace, request.pod))
        except NotFound as error:
            raise Denied(f"There is no pod {name}, and only pods that exist get volumes.") from error
        why_not = why_not_on_this_node(pod, request.uid, self._node)
        if why_not:
            raise Denied(why_not)
        volume, mounts = await self._bound(pod, request)
        dataset = _dataset_of(volume, request)
        terms = await self._terms(name, dataset)
        return Use(dataset=dataset, read_only=terms.read_only or _nobody_writes(pod, mounts))

    async def _bound(self, pod: Doc[Any], request: ClaimRequest) -> tuple[Doc[Any], dict[str, bool]]:
        """Return the volume, and which of the pod's volumes are it; True for those that the pod itself mounts read-only."""
        found: tuple[Doc[Any], Doc[Any]] | None = None
        mounts: dict[str, bool] = {}
        for entry in pod.spec.get("volumes") or []:
            source = entry.get("persistentVolumeClaim") or {}
            if not source.get("claimName"):
                continue
            claim = await self._get_claim(Ref(pod.namespace, str(source["claimName"])))
            name = str(claim.spec.get("volumeName") or "") if claim is not None else ""
            volume = await self._get_volume(name) if name else None
            if claim is not None and volume is not None and _is_bound(volume, claim, request.volume_id):
                found = (volume, claim)
                mounts[str(entry["name"])] = bool(source.get("readOnly"))
        if found is None:
            raise Denied(
                f"Pod {pod.ref} has no claim that is bound to a PersistentVolume of {CSI_DRIVER} with the handle "
                f"{request.volume_id}.",
                hint="A volume is for the claim in its claimRef and that claim's namespace only.",
            )
        return found[0], mounts

    async def _get_claim(self, ref: Ref) -> Doc[Any] | None:
        try:
            return await self._cluster.get(PERSISTENT_VOLUME_CLAIM, ref)
        except NotFound:
            return None

    async def _get_volume(self, name: str) -> Doc[Any] | None:
        try:
            return await self._cluster.get(PERSISTENT_VOLUME, Ref("", name))
        except NotFound:
            return None

    async def _terms(self, pod: str, dataset: Ref) -> Terms:
        try:
            return await self._terms_of(dataset.namespace, dataset.name)
        except NotFound as error:
            raise NotFound(
                f"Pod {pod} mounts a volume of Dataset {dataset}, which does not exist.",
                hint="Make the Dataset and its ThinRuntime, or delete the claim and the volume.",
            ) from error


def _is_bound(volume: Doc[Any], claim: Doc[Any], handle: str) -> bool:
    csi, reference = volume.spec.get("csi") or {}, volume.spec.get("claimRef") or {}
    return bool(
        csi.get("driver") == CSI_DRIVER
        and csi.get("volumeHandle") == handle
        and claim.status.get("phase") == "Bound"
        and (reference.get("namespace"), reference.get("name"), reference.get("uid"))
        == (claim.namespace, claim.name, claim.uid)
    )


def _dataset_of(volume: Doc[Any], request: ClaimRequest) -> Ref:
    """Return the Dataset that the volume names in the API; what the kubelet was told must be the same."""
    attributes: Json = volume.spec["csi"].get("volumeAttributes") or {}
    dataset = Ref(str(attributes.get(CSI_ATTRIBUTE_NAMESPACE) or ""), str(attributes.get(CSI_ATTRIBUTE_DATASET) or ""))
    if not dataset.name:
        raise Unsupported(
            f"PersistentVolume {volume.name} names no Dataset, and the nodes of this cluster mount Datasets only.",
            hint=f"Make a Dataset and a ThinRuntime of one name: their claim of that name is mounted in place of it. "
            f"Or set {CSI_ATTRIBUTE_DATASET} and {CSI_ATTRIBUTE_NAMESPACE} in its volumeAttributes.",
        )
    if any(request.attributes.get(key, value) != value for key, value in attributes.items()):
        raise Denied(
            f"PersistentVolume {volume.name} has other volumeAttributes than the kubelet was given.",
            hint="Attributes do not change: delete the volume and make it anew.",
        )
    if dataset.namespace != request.namespace:
        raise Denied(
            f"PersistentVolume {volume.name} is of Dataset {dataset}, and pod {request.namespace}/{request.pod} is of "
            f"namespace {request.namespace}.",
            hint="A pod gets Datasets of its own namespace only; make one there.",
        )
    return dataset


def _nobody_writes(pod: Doc[Any], volumes: Mapping[str, bool]) -> bool:
    """A container's `readOnly` does not hold for the mount of a restarted client, so where all ask for it, all get a
    mount that is read-only itself."""
    containers = [*(pod.spec.get("initContainers") or []), *(pod.spec.get("containers") or [])]
    mounts = [mount for container in containers for mount in container.get("volumeMounts") or []]
    ours = [mount for mount in mounts if mount.get("name") in volumes]
    if not ours:
        return all(volumes.values())
    return all(mount.get("readOnly") or volumes[str(mount["name"])] for mount in ours)
