"""What people write on a cluster, for tests whose storage nobody serves: a claim, its volume, a profile, a job, a node."""

from __future__ import annotations

from typing import Any

from headrace.spec.kind import Json
from headrace.spec.names import CSI_DRIVER, NODE_POOL_LABEL, RUNTIME_PROFILE_LABEL

FLUID, OURS = "data.fluid.io/v1alpha1", "headrace.io/v1alpha1"


def profile(name: str, **spec: Any) -> Json:
    fuse = {"image": "registry.test/client:1", "command": ["mount"], "resources": {"requests": {"cpu": "50m"}}}
    body = spec or {"fileSystemType": "juicefs", "fuse": fuse}
    return {"apiVersion": FLUID, "kind": "ThinRuntimeProfile", "metadata": {"name": name}, "spec": body}


def secret(space: str, name: str) -> Json:
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": "hush"}}


def volume(space: str, name: str) -> Json:
    """A volume for the claim of the same name, published with the Secret `jfs`; its name is the namespace's and its own."""
    csi = {
        "driver": CSI_DRIVER,
        "volumeHandle": name,
        "volumeAttributes": {"profile": "juicefs", "mountPoint": f"juicefs://{name}"},
        "nodePublishSecretRef": {"name": "jfs", "namespace": space},
    }
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "claimRef": {"namespace": space, "name": name},
        "csi": csi,
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{space}-{name}"}, "spec": spec}


def claim(space: str, name: str, *, profile: str = "") -> Json:
    labels = {RUNTIME_PROFILE_LABEL: profile} if profile else {}
    spec = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "volumeName": f"{space}-{name}",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    meta = {"name": name, "namespace": space, "labels": labels}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def pool(name: str, **spec: Any) -> Json:
    return {"apiVersion": OURS, "kind": "Pool", "metadata": {"name": name}, "spec": {"kind": "own", **spec}}


def queue(name: str, **spec: Any) -> Json:
    return {"apiVersion": OURS, "kind": "Queue", "metadata": {"name": name}, "spec": spec}


def job(space: str, name: str, **spec: Any) -> Json:
    body = {"command": ["true"], "image": "registry.test/train:1", "resources": {"cpu": 1, "memory": "1Gi"}, **spec}
    return {"apiVersion": OURS, "kind": "TrainJob", "metadata": {"name": name, "namespace": space}, "spec": body}


def node(name: str, pool_name: str) -> Json:
    """A node that nobody runs, and that its lease's absence makes NotReady after a while."""
    room = {"cpu": "4", "memory": "16Gi", "pods": "10"}
    ready = {"type": "Ready", "status": "True", "reason": "Tests", "message": "said so"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {NODE_POOL_LABEL: pool_name}},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }


def pod(space: str, name: str, *claims: str, **spec: Any) -> Json:
    """A pod of somebody's that mounts claims."""
    volumes = [{"name": f"c{i}", "persistentVolumeClaim": {"claimName": name}} for i, name in enumerate(claims)]
    mounts = [{"name": f"c{i}", "mountPath": f"/{name}"} for i, name in enumerate(claims)]
    main = {"name": "main", "image": "registry.test/app:1", "command": ["true"], "volumeMounts": mounts}
    meta = {"name": name, "namespace": space}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [main], "volumes": volumes, **spec},
    }
