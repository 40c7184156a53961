"""One worker's pod, as it is for every pool: the user's command, resources and mounts, and what Headrace adds openly.

Data is injected afterwards, by `data.injection`, for the pool that was chosen. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headrace.spec.amounts import Amounts, in_whole
from headrace.spec.kind import Json
from headrace.spec.names import DEFAULT_CONTAINER_ANNOTATION, METERED_FINALIZER
from headrace.units import format_quantity

MAIN_CONTAINER = "main"
WORKSPACE = "/workspace"
HOST_IMAGE = "host"
_CA_FILE = "/var/run/headrace/ca.crt"


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What makes one worker different from another. `resources` are those of the main container."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Json
    command: Sequence[str]
    image: str
    env: Sequence[Json]
    resources: Amounts
    shm_bytes: int = 0
    mounts: Sequence[Json] = ()
    subdomain: str = ""
    grace_s: int = 30
    stop_signal: str = ""


class CodeSource(msgspec.Struct, frozen=True):
    """Where a worker's init container fetches the code: a URL that is good for this digest only.

    `authority` is PEM text of who vouches for the URL; where it is empty, the cluster's own authority does.
    """

    url: str
    digest: str
    python: str = "python3"
    image: str = HOST_IMAGE
    authority: str = ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a pod has to run: the pool's labels and tolerations, and the node where it was packed."""

    node_selector: Mapping[str, str]
    tolerations: Sequence[Json] = ()
    node: str = ""
    gpu_resources: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}


def build(worker: Worker, place: Place, code: CodeSource | None) -> Json:
    """Return the pod. Claims are ordinary PVC volumes; nothing of Headrace's data plane is in it yet."""
    main: Json = {
        "name": MAIN_CONTAINER,
        "image": worker.image or HOST_IMAGE,
        "command": list(worker.command),
        "env": list(worker.env),
        "resources": _resources(worker.resources, place.gpu_resources),
        "volumeMounts": [],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec: Json = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "hostname": worker.name,
        "nodeSelector": dict(place.node_selector),
        "tolerations": list(place.tolerations),
        "terminationGracePeriodSeconds": worker.grace_s,
        "containers": [main],
        "volumes": [],
    }
    if worker.subdomain:
        spec["subdomain"] = worker.subdomain
    if worker.stop_signal and worker.stop_signal != "SIGTERM":
        main["lifecycle"] = {
            "preStop": {"exec": {"command": ["kill", "-s", worker.stop_signal.removeprefix("SIG"), "1"]}}
        }
    if place.node:
        field = {"key": "metadata.name", "operator": "In", "values": [place.node]}
        terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    _add_mounts(spec, main, worker.mounts)
    if worker.shm_bytes:
        _add_volume(
            spec,
            main,
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(worker.shm_bytes)}},
            "/dev/shm",
        )
    if code is not None:
        _add_code(spec, main, code)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": worker.name,
            "namespace": worker.namespace,
            "labels": {**worker.labels, **place.labels},
            "annotations": {DEFAULT_CONTAINER_ANNOTATION: MAIN_CONTAINER, **worker.annotations, **place.annotations},
            "ownerReferences": [worker.owner],
            "finalizers": [METERED_FINALIZER],
        },
        "spec": spec,
    }


def _resources(shape: Amounts, gpu_resources: Mapping[str, str]) -> Json:
    amounts: dict[str, str] = {}
    for name, amount in shape.items():
        if not amount:
            continue
        resource = gpu_resources.get(name, "nvidia.com/gpu") if name.startswith("gpu/") else name
        amounts[resource] = format_quantity(resource, in_whole(name, amount))
    return {"requests": amounts, "limits": dict(amounts)}


def _add_mounts(spec: Json, main: Json, mounts: Sequence[Json]) -> None:
    """Add a volume for each claim, one even where a claim is mounted twice."""
    names: dict[str, str] = {}
    for mount in mounts:
        claim = mount.get("claim")
        if not claim:  # a source: reported as Unsupported, and nothing to mount
            continue
        if claim not in names:
            names[claim] = f"claim-{len(names)}"
            spec["volumes"].append({"name": names[claim], "persistentVolumeClaim": {"claimName": claim}})
        entry: Json = {"name": names[claim], "mountPath": mount["path"]}
        if mount.get("readOnly"):
            entry["readOnly"] = True
        if mount.get("subPath"):
            entry["subPath"] = mount["subPath"]
        main["volumeMounts"].append(entry)


def _add_volume(spec: Json, container: Json, volume: Json, path: str) -> None:
    spec["volumes"].append(volume)
    container["volumeMounts"].append({"name": volume["name"], "mountPath": path})


def _add_code(spec: Json, main: Json, code: CodeSource) -> None:
    """Add the init container that unpacks the code, and run the command in it."""
    init: Json = {
        "name": "code",
        "image": code.image,
        "command": [code.python, "-m", "headrace.pods.fetch", code.url, code.digest, WORKSPACE],
        "env": [{"name": "HEADRACE_CA", "value": code.authority or _CA_FILE}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [],
        "securityContext": dict(main["securityContext"]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    _add_volume(spec, init, {"name": "code", "emptyDir": {}}, WORKSPACE)
    if not code.authority:
        ca = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        _add_volume(spec, init, {"name": "ca", "configMap": ca}, _CA_FILE.rpartition("/")[0])
    main["volumeMounts"].append({"name": "code", "mountPath": WORKSPACE})
    main["workingDir"] = WORKSPACE
    spec["initContainers"] = [init]
