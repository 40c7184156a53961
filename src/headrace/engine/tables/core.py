"""Rows of the other core kinds, as kubectl's printers have them (Kubernetes v1.36 `internalversion/printers.go`)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from headrace.engine.tables.columns import (
    AGE,
    NAME,
    Cell,
    Layout,
    TableColumn,
    created,
    items,
    layout,
    object_name,
    part,
    text,
)
from headrace.engine.tables.elapsed import age
from headrace.engine.tables.pods import PODS
from headrace.spec.kind import Json

_ROLE_PREFIX = "node-role.kubernetes.io/"
_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _namespace(raw: Json, now: dt.datetime) -> list[Cell]:
    return [object_name(raw), text(raw, "status", "phase"), age(created(raw), now)]


def _secret(raw: Json, now: dt.datetime) -> list[Cell]:
    return [object_name(raw), text(raw, "type"), len(part(raw, "data") or {}), age(created(raw), now)]


def _config_map(raw: Json, now: dt.datetime) -> list[Cell]:
    count = len(part(raw, "data") or {}) + len(part(raw, "binaryData") or {})
    return [object_name(raw), count, age(created(raw), now)]


def _plain(raw: Json, now: dt.datetime) -> list[Cell]:
    return [object_name(raw), age(created(raw), now)]


def _service(raw: Json, now: dt.datetime) -> list[Cell]:
    spec = part(raw, "spec") or {}
    ports = ",".join(_port(port) for port in items(spec, "ports"))
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or "<none>"]
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    return [
        object_name(raw),
        text(spec, "type"),
        addresses[0],
        _external_address(raw),
        ports or "<none>",
        age(created(raw), now),
        selector or "<none>",
    ]


def _port(port: Json) -> str:
    outside = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{outside}/{port.get('protocol', 'TCP')}"


def _external_address(service: Json) -> str:
    given: list[str] = part(service, "spec", "externalIPs") or []
    match part(service, "spec", "type"):
        case "ExternalName":
            return text(service, "spec", "externalName")
        case "LoadBalancer":
            balanced = {i.get("ip") or i.get("hostname") for i in items(service, "status", "loadBalancer", "ingress")}
            return ",".join([*sorted(filter(None, balanced)), *given]) or "<pending>"
        case _:
            return ",".join(given) or "<none>"


def _node(raw: Json, now: dt.datetime) -> list[Cell]:
    ready = [c for c in items(raw, "status", "conditions") if c.get("type") == "Ready"]
    status = ("Ready" if ready[0].get("status") == "True" else "NotReady") if ready else "Unknown"
    if part(raw, "spec", "unschedulable"):
        status += ",SchedulingDisabled"
    info = part(raw, "status", "nodeInfo") or {}
    kernel = text(info, "kernelVersion", otherwise="<unknown>")
    return [
        object_name(raw),
        status,
        _node_roles(raw),
        age(created(raw), now),
        text(info, "kubeletVersion"),
        _node_address(raw, "InternalIP"),
        _node_address(raw, "ExternalIP"),
        text(info, "osImage", otherwise="<unknown>"),
        f"{kernel} ({info['architecture']})" if info.get("architecture") else kernel,
        text(info, "containerRuntimeVersion", otherwise="<unknown>"),
    ]


def _node_roles(raw: Json) -> str:
    labels: Mapping[str, str] = part(raw, "metadata", "labels") or {}
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return ",".join(sorted(filter(None, roles))) or "<none>"


def _node_address(raw: Json, type_name: str) -> str:
    found = (a.get("address", "") for a in items(raw, "status", "addresses") if a.get("type") == type_name)
    return next(found, "<none>")


def _volume(raw: Json, now: dt.datetime) -> list[Cell]:
    spec = part(raw, "spec") or {}
    claim = spec.get("claimRef")
    return [
        object_name(raw),
        text(spec, "capacity", "storage", otherwise="0"),
        _access_modes(spec.get("accessModes")),
        text(spec, "persistentVolumeReclaimPolicy"),
        _phase(raw),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _storage_class_of(raw),
        text(spec, "volumeAttributesClassName", otherwise="<unset>"),
        text(raw, "status", "reason"),
        age(created(raw), now),
        text(spec, "volumeMode", otherwise="<unset>"),
    ]


def _claim(raw: Json, now: dt.datetime) -> list[Cell]:
    spec = part(raw, "spec") or {}
    is_bound = bool(spec.get("volumeName"))
    return [
        object_name(raw),
        _phase(raw),
        text(spec, "volumeName"),
        text(raw, "status", "capacity", "storage", otherwise="0") if is_bound else "",
        _access_modes(part(raw, "status", "accessModes")) if is_bound else "",
        _storage_class_of(raw),
        text(spec, "volumeAttributesClassName", otherwise="<unset>"),
        age(created(raw), now),
        text(spec, "volumeMode", otherwise="<unset>"),
    ]


def _phase(raw: Json) -> str:
    return "Terminating" if part(raw, "metadata", "deletionTimestamp") else text(raw, "status", "phase")


def _access_modes(modes: list[str] | None) -> str:
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in (modes or ()))


def _storage_class_of(raw: Json) -> str:
    annotated = text(raw, "metadata", "annotations", "volume.beta.kubernetes.io/storage-class")
    return annotated or text(raw, "spec", "storageClassName")


def _storage_class(raw: Json, now: dt.datetime) -> list[Cell]:
    annotations = part(raw, "metadata", "annotations") or {}
    is_default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return [
        object_name(raw) + (" (default)" if is_default else ""),
        text(raw, "provisioner"),
        text(raw, "reclaimPolicy", otherwise="Delete"),
        text(raw, "volumeBindingMode", otherwise="Immediate"),
        bool(raw.get("allowVolumeExpansion")),
        age(created(raw), now),
    ]


def _csi_driver(raw: Json, now: dt.datetime) -> list[Cell]:
    spec = part(raw, "spec") or {}
    audiences = [request.get("audience", "") for request in items(spec, "tokenRequests")]
    return [
        object_name(raw),
        spec.get("attachRequired") is not False,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(audiences) if spec.get("tokenRequests") is not None else "<unset>",
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or []) or "<none>",
        age(created(raw), now),
    ]


def _csi_node(raw: Json, now: dt.datetime) -> list[Cell]:
    return [object_name(raw), len(items(raw, "spec", "drivers")), age(created(raw), now)]


def _lease(raw: Json, now: dt.datetime) -> list[Cell]:
    return [object_name(raw), text(raw, "spec", "holderIdentity"), age(created(raw), now)]


def _priority_class(raw: Json, now: dt.datetime) -> list[Cell]:
    return [
        object_name(raw),
        raw.get("value") or 0,
        bool(raw.get("globalDefault")),
        age(created(raw), now),
        text(raw, "preemptionPolicy"),
    ]


def _event(raw: Json, now: dt.datetime) -> list[Cell]:
    first = age(raw.get("firstTimestamp") or raw.get("eventTime"), now)
    last = age(raw["lastTimestamp"], now) if raw.get("lastTimestamp") else first
    count = raw.get("count") or 1
    if raw.get("series"):
        last, count = age(raw["series"].get("lastObservedTime"), now), raw["series"].get("count", 0)
    about = part(raw, "involvedObject") or {}
    target = "/".join(filter(None, [text(about, "kind").lower(), text(about, "name")]))
    component = text(raw, "source", "component") or text(raw, "reportingComponent")
    instance = text(raw, "source", "host") or text(raw, "reportingInstance")
    return [
        last,
        text(raw, "type"),
        text(raw, "reason"),
        target,
        text(about, "fieldPath"),
        f"{component}, {instance}" if instance else component,
        text(raw, "message").strip(),
        first,
        str(count),
        object_name(raw),
    ]


def _definition(raw: Json, now: dt.datetime) -> list[Cell]:  # noqa: ARG001 every row function has the time
    return [object_name(raw), created(raw)]


def _webhooks(raw: Json, now: dt.datetime) -> list[Cell]:
    return [object_name(raw), len(items(raw, "webhooks")), age(created(raw), now)]


_WEBHOOKS = layout(_webhooks, NAME, TableColumn("Webhooks", "integer"), AGE)
_EVENT_NAME = NAME._replace(wide=True)

CORE_LAYOUTS: Mapping[tuple[str, str], Layout] = {
    ("", "Pod"): PODS,
    ("", "Namespace"): layout(_namespace, NAME, "Status", AGE),
    ("", "Secret"): layout(_secret, NAME, "Type", TableColumn("Data", "integer"), AGE),
    ("", "ConfigMap"): layout(_config_map, NAME, TableColumn("Data", "integer"), AGE),
    ("", "ServiceAccount"): layout(_plain, NAME, AGE),
    ("", "Service"): layout(_service, NAME, "Type", "Cluster-IP", "External-IP", "Port(s)", AGE, "+Selector"),
    ("", "Node"): layout(
        _node,
        *(NAME, "Status", "Roles", AGE, "Version"),
        *("+Internal-IP", "+External-IP", "+OS-Image", "+Kernel-Version", "+Container-Runtime"),
    ),
    ("", "PersistentVolume"): layout(
        _volume,
        *(NAME, "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass"),
        *("VolumeAttributesClass", "Reason", AGE, "+VolumeMode"),
    ),
    ("", "PersistentVolumeClaim"): layout(
        _claim,
        *(NAME, "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass"),
        *(AGE, "+VolumeMode"),
    ),
    ("", "Event"): layout(
        _event,
        *("Last Seen", "Type", "Reason", "Object", "+Subobject", "+Source", "Message", "+First Seen", "+Count"),
        _EVENT_NAME,
    ),
    ("storage.k8s.io", "StorageClass"): layout(
        _storage_class, NAME, "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", AGE
    ),
    ("storage.k8s.io", "CSIDriver"): layout(
        _csi_driver,
        NAME,
        *(TableColumn(name, "boolean") for name in ("AttachRequired", "PodInfoOnMount", "StorageCapacity")),
        *("TokenRequests", TableColumn("RequiresRepublish", "boolean"), "Modes", AGE),
    ),
    ("storage.k8s.io", "CSINode"): layout(_csi_node, NAME, TableColumn("Drivers", "integer"), AGE),
    ("coordination.k8s.io", "Lease"): layout(_lease, NAME, "Holder", AGE),
    ("scheduling.k8s.io", "PriorityClass"): layout(
        _priority_class,
        *(NAME, TableColumn("Value", "integer"), TableColumn("Global-Default", "boolean"), AGE, "+PreemptionPolicy"),
    ),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): layout(_definition, NAME, "Created At"),
}
"""How core kinds are printed, by group and kind name."""
