"""What Kubernetes fills into core kinds other than Pod (`defaults.go` of each group, and its create strategies)."""

from __future__ import annotations

import base64
from typing import Any

from headrace.spec.kind import Json
from headrace.spec.names import NAMESPACE_FINALIZER, NAMESPACE_NAME_LABEL


def _inner(holder: Json, key: str) -> Json:
    """Return `holder[key]` as an object, made where it is absent; a throw-away one where it is malformed."""
    inner: Any = holder.setdefault(key, {})
    return inner if isinstance(inner, dict) else {}


def _set(holder: Json, **values: Any) -> None:
    for key, value in values.items():
        holder.setdefault(key, value)


def default_namespace(namespace: Json) -> None:
    """The finalizer that keeps it until its content is gone, and the label by which selectors find it."""
    _set(_inner(namespace, "spec"), finalizers=[NAMESPACE_FINALIZER])
    _set(_inner(namespace, "status"), phase="Active")
    metadata = _inner(namespace, "metadata")
    if metadata.get("name"):
        _inner(metadata, "labels")[NAMESPACE_NAME_LABEL] = metadata["name"]


def default_secret(secret: Json) -> None:
    """Type Opaque; `stringData` goes, encoded, into `data`."""
    _set(secret, type="Opaque")
    plain = secret.get("stringData")
    if isinstance(plain, dict) and all(isinstance(value, str) for value in plain.values()):
        del secret["stringData"]
        data = _inner(secret, "data")
        data.update({key: base64.b64encode(value.encode()).decode() for key, value in plain.items()})


def default_service(service: Json) -> None:
    """ClusterIP over TCP, each port to the same port of the pod. The address is given by the server."""
    spec = _inner(service, "spec")
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
    if spec.get("clusterIP") == "None":
        _set(spec, clusterIPs=["None"])
    ports = spec.get("ports")
    for port in ports if isinstance(ports, list) else ():
        if isinstance(port, dict):
            _set(port, protocol="TCP")
            if "port" in port:
                _set(port, targetPort=port["port"])


def default_claim(claim: Json) -> None:
    """A file system, pending."""
    _set(_inner(claim, "spec"), volumeMode="Filesystem")
    _set(_inner(claim, "status"), phase="Pending")


def default_volume(volume: Json) -> None:
    """A file system that is kept when released, pending."""
    spec = _inner(volume, "spec")
    _set(spec, volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")
    if isinstance(spec.get("hostPath"), dict):
        _set(spec["hostPath"], type="")
    _set(_inner(volume, "status"), phase="Pending")


def default_storage_class(storage_class: Json) -> None:
    """Volumes are made at once and deleted with their claim."""
    _set(storage_class, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def default_csi_driver(driver: Json) -> None:
    """A driver of persistent volumes that wants to be attached."""
    _set(
        _inner(driver, "spec"),
        attachRequired=True,
        podInfoOnMount=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        volumeLifecycleModes=["Persistent"],
        storageCapacity=False,
        requiresRepublish=False,
        seLinuxMount=False,
    )


def default_priority_class(priority_class: Json) -> None:
    """May push others out."""
    _set(priority_class, preemptionPolicy="PreemptLowerPriority", value=0)


def default_crd(crd: Json) -> None:
    """Singular and list names, and no conversion."""
    spec = crd.get("spec")
    if not isinstance(spec, dict):
        return
    names = _inner(spec, "names")
    if isinstance(names.get("kind"), str):
        _set(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    _set(spec, conversion={"strategy": "None"})


def default_webhooks(configuration: Json) -> None:
    """Webhooks that must answer, within 10 s, about all objects, in whatever version those are written."""
    for hook in _objects(configuration, "webhooks"):
        _set(hook, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        _set(hook, namespaceSelector={}, objectSelector={})
        for rule in _objects(hook, "rules"):
            _set(rule, scope="*")
        client = hook.get("clientConfig")
        if isinstance(client, dict) and isinstance(client.get("service"), dict):
            _set(client["service"], port=443)


def default_mutating_webhooks(configuration: Json) -> None:
    """Each asked once only."""
    default_webhooks(configuration)
    for hook in _objects(configuration, "webhooks"):
        _set(hook, reinvocationPolicy="Never")


def _objects(holder: Json, key: str) -> list[Json]:
    found = holder.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
