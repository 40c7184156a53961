"""Which datasets a pod really reads, through which volumes, and in which containers.

A claim that no container mounts is no use: that is how the original claim stays in an injected pod, and why injecting
twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headrace.data.client import ResolvedDataset
from headrace.errors import InvalidSpec, Unsupported
from headrace.spec.kind import Json

CONTAINER_LISTS = ("initContainers", "containers")


@dataclass(frozen=True, kw_only=True)
class Use:
    """One dataset in one pod.

    Args:
        volumes: the pod's volumes that name the claim, and whether the volume itself is read-only.
        read_only: no container may write.
    """

    dataset: ResolvedDataset
    volumes: Mapping[str, bool]
    read_only: bool


def find_uses(pod: Json, datasets: Mapping[str, ResolvedDataset]) -> list[Use]:
    """Return the uses in the order of the pod's volumes; several volumes of one claim are one use.

    Args:
        datasets: by claim name.
    """
    spec = pod.get("spec") or {}
    found: dict[str, dict[str, bool]] = {}
    for volume in spec.get("volumes") or []:
        claim = volume.get("persistentVolumeClaim") or {}
        dataset = datasets.get(str(claim.get("claimName", "")))
        if dataset is not None:
            found.setdefault(dataset.claim, {})[str(volume["name"])] = bool(claim.get("readOnly"))
    uses = []
    for claim_name, volumes in found.items():
        dataset = datasets[claim_name]
        mounts = [mount for _, mount in mounts_of(spec, volumes)]
        if mounts or any(True for _ in devices_of(spec, volumes)):
            read_only = dataset.read_only or all(volumes[str(m["name"])] or m.get("readOnly") for m in mounts)
            uses.append(Use(dataset=dataset, volumes=volumes, read_only=bool(read_only)))
    return uses


def refuse_impossible(pod: Json, use: Use) -> None:
    """Raise InvalidSpec or Unsupported for a use that only the claim's own driver could serve."""
    spec = pod.get("spec") or {}
    if (spec.get("os") or {}).get("name") == "windows":
        raise Unsupported(
            f"Dataset {use.dataset} cannot be mounted in a Windows pod: FUSE clients run on Linux.",
            hint="Run the pod on Linux.",
        )
    _refuse_foreign(pod, use.dataset)
    for container in devices_of(spec, use.volumes):
        raise InvalidSpec(
            f"Dataset {use.dataset} is a file system, and container {container.get('name')} wants claim "
            f"{use.dataset.claim} as a block device.",
            hint="Use volumeMounts in place of volumeDevices.",
        )
    for container, mount in mounts_of(spec, use.volumes):
        _refuse_mount(container, mount, use.dataset)


def devices_of(spec: Json, volumes: Mapping[str, bool]) -> Iterator[Json]:
    """Yield every container that wants one of `volumes` as a block device."""
    for group in CONTAINER_LISTS:
        for container in spec.get(group) or []:
            if any(device.get("name") in volumes for device in container.get("volumeDevices") or []):
                yield container


def mounts_of(spec: Json, volumes: Mapping[str, bool]) -> Iterator[tuple[Json, Json]]:
    """Yield every `(container, volumeMount)` that mounts one of `volumes`, init containers first."""
    for group in CONTAINER_LISTS:
        for container in spec.get(group) or []:
            for mount in container.get("volumeMounts") or []:
                if mount.get("name") in volumes:
                    yield container, mount


def _refuse_foreign(pod: Json, dataset: ResolvedDataset) -> None:
    namespace = str((pod.get("metadata") or {}).get("namespace", "")) or dataset.namespace
    if namespace != dataset.namespace:
        raise InvalidSpec(
            f"Dataset {dataset} is of another namespace than the pod, which is of {namespace}.",
            hint=f"Make a claim and a Dataset in {namespace}.",
        )


def _refuse_mount(container: Json, mount: Json, dataset: ResolvedDataset) -> None:
    name = container.get("name")
    if mount.get("mountPropagation") == "Bidirectional":
        raise InvalidSpec(
            f"Container {name} mounts dataset {dataset} with mountPropagation Bidirectional, but only the dataset's "
            "own client mounts there.",
            hint="Remove mountPropagation.",
        )
    if mount.get("recursiveReadOnly") == "Enabled":
        raise Unsupported(
            f"Container {name} mounts dataset {dataset} with recursiveReadOnly Enabled, which Kubernetes forbids "
            "together with the mount propagation that dataset mounts need.",
            hint="Use readOnly: true alone; the file system itself is then mounted read-only.",
        )
