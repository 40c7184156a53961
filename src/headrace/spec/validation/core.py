"""Core kinds other than Pod: what a server must not let in because somebody would fall over it later."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from headrace.spec.core.config import ConfigMap, Secret
from headrace.spec.core.coordination import CustomResourceDefinition, Event, Lease
from headrace.spec.core.network import Service
from headrace.spec.core.node import Node
from headrace.spec.core.scheduling import PriorityClass
from headrace.spec.core.storage import CSIDriver, PersistentVolume, PersistentVolumeClaim, StorageClass
from headrace.spec.validation.metadata import check_labels, check_subdomain
from headrace.spec.validation.problem import Problem, Problems, check_one_of, check_quantity, check_unique, member

ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_VOLUME_SOURCES = ("csi", "host_path", "local", "nfs")
_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_MAX_BYTES = 1024 * 1024
_KEY_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def check_access_modes(path: str, modes: tuple[str, ...], *, required: bool) -> Problems:
    """Report access modes that do not exist, or none where one is needed."""
    if required and not modes:
        yield Problem(path, f"is required: one or more of {', '.join(ACCESS_MODES)}")
    for index, mode in enumerate(modes):
        yield from check_one_of(f"{path}[{index}]", mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        yield Problem(path, "may hold nothing besides ReadWriteOncePod")


def check_claim(claim: PersistentVolumeClaim) -> Problems:
    """Report what is wrong with a PersistentVolumeClaim."""
    yield from check_access_modes("spec.accessModes", claim.spec.access_modes, required=True)
    request = claim.spec.resources.requests.get("storage")
    if request is None:
        yield Problem("spec.resources.requests.storage", "is required, such as 10Gi")
    else:
        yield from check_quantity("spec.resources.requests.storage", request, zero=False)
    if claim.spec.storage_class_name:
        yield from check_subdomain("spec.storageClassName", claim.spec.storage_class_name, what="a StorageClass's name")
    yield from check_one_of("spec.volumeMode", claim.spec.volume_mode, ("Filesystem", "Block"))


def check_volume(volume: PersistentVolume) -> Problems:
    """Report what is wrong with a PersistentVolume. Sources only a real Kubernetes knows pass."""
    spec = volume.spec
    yield from check_access_modes("spec.accessModes", spec.access_modes, required=True)
    if "storage" not in spec.capacity:
        yield Problem("spec.capacity.storage", "is required, such as 10Gi")
    for name, amount in spec.capacity.items():
        yield from check_quantity(member("spec.capacity", name), amount, zero=False)
    yield from check_one_of(
        "spec.persistentVolumeReclaimPolicy", spec.persistent_volume_reclaim_policy, ("Retain", "Delete", "Recycle")
    )
    yield from check_one_of("spec.volumeMode", spec.volume_mode, ("Filesystem", "Block"))
    if sum(getattr(spec, source) is not None for source in _VOLUME_SOURCES) > 1:
        yield Problem("spec", "must have exactly one of csi, hostPath, local, nfs")
    if spec.csi is not None:
        yield from check_subdomain("spec.csi.driver", spec.csi.driver, what="the driver's name")
        if not spec.csi.volume_handle:
            yield Problem("spec.csi.volumeHandle", "is required: the driver's own name of the volume")
    if spec.local is not None and spec.node_affinity is None:
        yield Problem("spec.nodeAffinity", "is required for a local volume")
    for field, source in (("hostPath", spec.host_path), ("local", spec.local)):
        if source is not None and ".." in source.path.split("/"):
            yield Problem(f"spec.{field}.path", f"is {source.path!r}; it must be without '..'")


def check_storage_class(storage_class: StorageClass) -> Problems:
    """Report what is wrong with a StorageClass."""
    if not storage_class.provisioner:
        yield Problem("provisioner", "is required")
    yield from check_one_of("reclaimPolicy", storage_class.reclaim_policy, ("Delete", "Retain"))
    yield from check_one_of(
        "volumeBindingMode", storage_class.volume_binding_mode, ("Immediate", "WaitForFirstConsumer")
    )


def check_csi_driver(driver: CSIDriver) -> Problems:
    """Report what is wrong with a CSIDriver."""
    for index, mode in enumerate(driver.spec.volume_lifecycle_modes):
        yield from check_one_of(f"spec.volumeLifecycleModes[{index}]", mode, ("Persistent", "Ephemeral"))


def check_secret(secret: Secret) -> Problems:
    """Report keys no file can have, values that are not base64, and more than 1 MiB."""
    yield from _keys("data", secret.data)
    yield from _base64("data", secret.data)
    yield from _size("data", sum(len(value) * 3 // 4 for value in secret.data.values()))
    for key in _SECRET_KEYS.get(secret.type, ()):
        if key not in secret.data:
            yield Problem(member("data", key), f"is required in a Secret of type {secret.type}")
    if secret.type == "kubernetes.io/basic-auth" and not secret.data.keys() & {"username", "password"}:
        yield Problem("data.username", f"or data.password is required in a Secret of type {secret.type}")


def check_config_map(config_map: ConfigMap) -> Problems:
    """Report keys no file can have, keys given twice, and more than 1 MiB."""
    yield from _keys("data", config_map.data)
    yield from _keys("binaryData", config_map.binary_data)
    yield from _base64("binaryData", config_map.binary_data)
    for key in sorted(config_map.data.keys() & config_map.binary_data.keys()):
        yield Problem(member("binaryData", key), "is in data too; a key may be given once")
    size = sum(len(value.encode()) for value in config_map.data.values())
    yield from _size("data", size + sum(len(value) * 3 // 4 for value in config_map.binary_data.values()))


def _keys(path: str, values: Mapping[str, str]) -> Problems:
    for key in values:
        if not key or len(key) > 253 or key in {".", ".."} or not set(key) <= _KEY_LETTERS:
            yield Problem(member(path, key), f"{key!r} is no key; use letters, digits, '-', '_' and '.'")


def _base64(path: str, values: Mapping[str, str]) -> Problems:
    for key, value in values.items():
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except binascii.Error:
            yield Problem(
                member(path, key), "is not base64; put plain text under stringData of a Secret, or data of a ConfigMap"
            )


def _size(path: str, size_bytes: int) -> Problems:
    if size_bytes > _MAX_BYTES:
        yield Problem(path, f"holds {size_bytes} bytes; {_MAX_BYTES} is the most")


def check_service(service: Service) -> Problems:
    """Report what is wrong with a Service."""
    spec = service.spec
    yield from check_one_of("spec.type", spec.type, ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))
    yield from check_labels("spec.selector", spec.selector)
    is_headless = spec.cluster_ip == "None"
    if spec.type == "ExternalName" and not spec.external_name:
        yield Problem("spec.externalName", "is required where type is ExternalName")
    if not spec.ports and not is_headless and spec.type != "ExternalName":
        yield Problem("spec.ports", "is required, unless clusterIP is None")
    yield from check_unique("spec.ports", (port.name for port in spec.ports), "name")
    for index, port in enumerate(spec.ports):
        where = f"spec.ports[{index}]"
        if not 1 <= port.port <= 65535:
            yield Problem(f"{where}.port", f"is {port.port}; it must be 1 to 65535")
        if len(spec.ports) > 1 and not port.name:
            yield Problem(f"{where}.name", "is required where there are several ports")
        yield from check_one_of(f"{where}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))


def check_node(node: Node) -> Problems:
    """Report what is wrong with a Node."""
    for index, taint in enumerate(node.spec.taints):
        yield from check_one_of(f"spec.taints[{index}].effect", taint.effect, _TAINT_EFFECTS)
        if not taint.key:
            yield Problem(f"spec.taints[{index}].key", "is required")
    for field, amounts in (("capacity", node.status.capacity), ("allocatable", node.status.allocatable)):
        for name, amount in amounts.items():
            yield from check_quantity(member(f"status.{field}", name), amount)


def check_priority_class(priority_class: PriorityClass) -> Problems:
    """Report what is wrong with a PriorityClass."""
    name = priority_class.metadata.name
    is_system = name.startswith("system-")
    if is_system and name not in {"system-node-critical", "system-cluster-critical"}:
        yield Problem("metadata.name", f"is {name!r}; names that begin with system- are Kubernetes' own")
    if priority_class.value > 1_000_000_000 and not is_system:
        yield Problem("value", f"is {priority_class.value}; 1000000000 is the most for other than system- classes")
    yield from check_one_of("preemptionPolicy", priority_class.preemption_policy, ("PreemptLowerPriority", "Never"))


def check_lease(lease: Lease) -> Problems:
    """Report what is wrong with a Lease."""
    duration_s = lease.spec.lease_duration_seconds
    if duration_s is not None and duration_s < 1:
        yield Problem("spec.leaseDurationSeconds", f"is {duration_s}; it must be 1 or more")


def check_event(event: Event) -> Problems:
    """Report an Event in another namespace than what it is about; about what has none, it is in `default`."""
    about, own = event.involved_object.namespace, event.metadata.namespace
    if about != own and (about or own not in {"", "default", "kube-system"}):
        yield Problem("involvedObject.namespace", f"is {about!r}; it must be the Event's own, {own!r}")


def check_crd(crd: CustomResourceDefinition) -> Problems:
    """Report what is wrong with a CustomResourceDefinition."""
    if crd.spec is None:
        yield Problem("spec", "is required")
        return
    wanted = f"{crd.spec.names.plural}.{crd.spec.group}"
    if crd.metadata.name and crd.metadata.name != wanted:
        yield Problem(
            "metadata.name", f"is {crd.metadata.name!r}; it must be {wanted!r}: the plural, a dot and the group"
        )
    yield from check_one_of("spec.scope", crd.spec.scope, ("Namespaced", "Cluster"))
    if sum(version.storage for version in crd.spec.versions) != 1:
        yield Problem("spec.versions", "must have exactly one version with storage: true")
    yield from check_unique("spec.versions", (version.name for version in crd.spec.versions), "name")
    for index, version in enumerate(crd.spec.versions):
        schema: Any = version.schema.get("openAPIV3Schema")
        if not isinstance(schema, Mapping):
            yield Problem(f"spec.versions[{index}].schema.openAPIV3Schema", "is required")
        elif schema.get("type") != "object":
            yield Problem(f"spec.versions[{index}].schema.openAPIV3Schema.type", "must be object")
