"""Volumes of a pod and where containers see them (Kubernetes `core/validation`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.spec.core.container import Container
from headrace.spec.core.volume import KeyToPath, Volume
from headrace.spec.validation.metadata import check_label, check_subdomain
from headrace.spec.validation.problem import (
    Problem,
    Problems,
    check_absolute,
    check_quantity,
    check_relative,
    check_unique,
)

_PROPAGATION = ("", "None", "HostToContainer", "Bidirectional")
_SOURCES = tuple(field for field in msgspec.structs.fields(Volume) if field.name != "name")


def check_volumes(path: str, volumes: Sequence[Volume]) -> Problems:
    """Report volumes without a good name or with more than one known source.

    A volume without a known source passes here: it may have one that only a real Kubernetes knows.
    """
    yield from check_unique(path, (volume.name for volume in volumes), "name")
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        yield from check_label(f"{where}.name", volume.name)
        sources = [field.encode_name for field in _SOURCES if getattr(volume, field.name) is not None]
        if len(sources) > 1:
            yield Problem(
                f"{where}.{sources[1]}", f"may not be given together with {sources[0]}: a volume has one source"
            )
        yield from _source(where, volume)


def _source(where: str, volume: Volume) -> Problems:
    if volume.empty_dir and volume.empty_dir.size_limit is not None:
        yield from check_quantity(f"{where}.emptyDir.sizeLimit", volume.empty_dir.size_limit)
    if volume.host_path:
        yield from _host_path(f"{where}.hostPath.path", volume.host_path.path)
    if volume.persistent_volume_claim:
        claim = volume.persistent_volume_claim.claim_name
        yield from check_subdomain(f"{where}.persistentVolumeClaim.claimName", claim, what="the claim's name")
    if volume.csi:
        yield from check_subdomain(f"{where}.csi.driver", volume.csi.driver, what="the driver's name")
    if volume.secret:
        yield from check_subdomain(f"{where}.secret.secretName", volume.secret.secret_name, what="the Secret's name")
        yield from _items(f"{where}.secret.items", volume.secret.items)
    if volume.config_map:
        yield from check_subdomain(f"{where}.configMap.name", volume.config_map.name, what="the ConfigMap's name")
        yield from _items(f"{where}.configMap.items", volume.config_map.items)
    if volume.downward_api:
        for index, item in enumerate(volume.downward_api.items):
            place = f"{where}.downwardAPI.items[{index}]"
            yield from check_relative(f"{place}.path", item.path)
            if (item.field_ref is None) == (item.resource_field_ref is None):
                yield Problem(place, "must have one of fieldRef and resourceFieldRef")


def _host_path(path: str, value: str) -> Problems:
    if not value or ".." in value.split("/"):
        yield Problem(path, f"is {value!r}; it must be a path of the node without '..'")


def _items(path: str, items: Sequence[KeyToPath]) -> Problems:
    for index, item in enumerate(items):
        if not item.key:
            yield Problem(f"{path}[{index}].key", "is required")
        if not item.path:
            yield Problem(f"{path}[{index}].path", "is required")
        yield from check_relative(f"{path}[{index}].path", item.path)


def check_volume_mounts(path: str, container: Container, volumes: Sequence[Volume]) -> Problems:
    """Report mounts of volumes the pod does not have, relative places, and two mounts at one place."""
    names = {volume.name for volume in volumes}
    yield from check_unique(path, (mount.mount_path for mount in container.volume_mounts), "mountPath")
    for index, mount in enumerate(container.volume_mounts):
        where = f"{path}[{index}]"
        if mount.name not in names:
            known = f"it has {', '.join(sorted(names))}" if names else "it has none"
            yield Problem(f"{where}.name", f"is {mount.name!r}, which is no volume of the pod; {known}")
        yield from check_absolute(f"{where}.mountPath", mount.mount_path)
        yield from check_relative(f"{where}.subPath", mount.sub_path)
        if mount.sub_path and mount.sub_path_expr:
            yield Problem(f"{where}.subPathExpr", "may not be given together with subPath")
        if mount.mount_propagation not in _PROPAGATION:
            yield Problem(
                f"{where}.mountPropagation",
                f"is {mount.mount_propagation!r}; it must be one of None, HostToContainer, Bidirectional",
            )
        if mount.mount_propagation == "Bidirectional" and not _is_privileged(container):
            yield Problem(f"{where}.mountPropagation", "is Bidirectional, which only a privileged container may have")


def _is_privileged(container: Container) -> bool:
    return bool(container.security_context and container.security_context.privileged)
