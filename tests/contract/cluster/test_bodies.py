"""What servers make of bodies: the defaults they fill in, and what they refuse. All of it by dry run."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.cluster.protocol import Cluster
from headrace.errors import InvalidSpec
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import (
    CONFIG_MAP,
    CSI_DRIVER,
    EVENT,
    LEASE,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    PRIORITY_CLASS,
    SECRET,
    SERVICE,
    STORAGE_CLASS,
)

pytestmark = pytest.mark.anyio
CONTAINER: Json = {"name": "c", "image": "i"}
EMPTY = {"name": "v", "emptyDir": {}}


def pod(**spec: Any) -> Json:
    return {"spec": {"containers": [CONTAINER], **spec}}


def container(**more: Any) -> Json:
    return pod(containers=[CONTAINER | more])


def claim(**spec: Any) -> Json:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    return {"spec": wanted | spec}


def volume(**spec: Any) -> Json:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec}}


def mounted(**mount: Any) -> Json:
    return pod(containers=[CONTAINER | {"volumeMounts": [{"name": "v", **mount}]}], volumes=[EMPTY])


def required(terms: Any) -> Json:
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return pod(affinity={"nodeAffinity": {key: {"nodeSelectorTerms": terms}}})


async def create(server: Cluster, room: str, kind: Kind[Any], body: Json) -> Json:
    metadata = {"name": "x", **body.get("metadata", {})}
    if kind.namespaced:
        metadata["namespace"] = room
    return (await server.create(kind, body | {"metadata": metadata}, dry_run=True)).raw


# -- defaults ----------------------------------------------------------------------------------------------------------

POD_DEFAULTS = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "default",
    "serviceAccount": "default",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}
CONTAINER_DEFAULTS = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "Always",
    "resources": {},
}
PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
TOKEN = {"serviceAccountToken": {"path": "t"}}
LABELS = {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (POD, pod(), {"spec": POD_DEFAULTS}),
        (POD, pod(), {"spec": {"containers": [CONTAINER | CONTAINER_DEFAULTS]}}),
        (POD, container(image="i:1"), {"spec": {"containers": [{"imagePullPolicy": "IfNotPresent"}]}}),
        (
            POD,
            container(livenessProbe={"exec": {"command": ["x"]}}),
            {"spec": {"containers": [{"livenessProbe": PROBE}]}},
        ),
        (
            POD,
            container(resources={"limits": {"cpu": "1"}}),
            {"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}},
        ),
        (
            POD,
            pod(hostNetwork=True, containers=[CONTAINER | {"ports": [{"containerPort": 80}]}]),
            {"spec": {"containers": [{"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]}},
        ),
        (POD, pod(terminationGracePeriodSeconds=-5), {"spec": {"terminationGracePeriodSeconds": 1}}),
        (POD, pod(volumes=[{"name": "v"}]), {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        (
            POD,
            pod(volumes=[{"name": "v", "projected": {"sources": [TOKEN, {"downwardAPI": {"items": [LABELS]}}]}}]),
            {
                "spec": {
                    "volumes": [
                        {
                            "projected": {
                                "defaultMode": 0o644,
                                "sources": [
                                    {"serviceAccountToken": {"expirationSeconds": 3600}},
                                    {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1"}}]}},
                                ],
                            }
                        }
                    ]
                }
            },
        ),
        (
            SERVICE,
            {"spec": {"ports": [{"port": 80}]}},
            {"spec": {"type": "ClusterIP", "internalTrafficPolicy": "Cluster"}},
        ),
        (SERVICE, {"spec": {"ports": [{"port": 80}]}}, {"spec": {"ports": [{"protocol": "TCP", "targetPort": 80}]}}),
        (SERVICE, {"spec": {"clusterIP": "None", "selector": {"a": "b"}}}, {"spec": {"clusterIPs": ["None"]}}),
        (SERVICE, {"metadata": {"name": "1x"}, "spec": {"ports": [{"port": 80}]}}, {"metadata": {"name": "1x"}}),
        (SECRET, {"stringData": {"a": "b"}}, {"type": "Opaque", "data": {"a": "Yg=="}}),
        (PERSISTENT_VOLUME_CLAIM, claim(), {"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
        (
            PERSISTENT_VOLUME,
            volume(hostPath={"path": "/a"}),
            {"spec": {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem", "hostPath": {"type": ""}}},
        ),
        (STORAGE_CLASS, {"provisioner": "p"}, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        (
            CSI_DRIVER,
            {"spec": {}},
            {"spec": {"attachRequired": True, "podInfoOnMount": False, "volumeLifecycleModes": ["Persistent"]}},
        ),
        (CSI_DRIVER, {"spec": {}}, {"spec": {"fsGroupPolicy": "ReadWriteOnceWithFSType", "seLinuxMount": False}}),
        (PRIORITY_CLASS, {}, {"value": 0, "preemptionPolicy": "PreemptLowerPriority"}),
        (NAMESPACE, {}, {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
    ],
)
async def test_defaults(server: Cluster, room: str, kind: Kind[Any], body: Json, expected: Json) -> None:
    made = await create(server, room, kind, body)
    assert part(made, expected) == expected


def part(value: Any, like: Any) -> Any:
    """Return of `value` what `like` names."""
    if isinstance(like, dict) and isinstance(value, dict):
        return {key: part(value[key], inner) for key, inner in like.items() if key in value}
    if isinstance(like, list) and isinstance(value, list):
        return [part(one, inner) for one, inner in zip(value, like, strict=False)]
    return value


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Kind[Any], Json]] = [
    (POD, {}),
    (POD, pod(containers=[])),
    (POD, pod(containers=[{"name": "c"}])),
    (POD, pod(containers=[CONTAINER, CONTAINER])),
    (POD, pod(initContainers=[CONTAINER])),
    (POD, pod(restartPolicy="Sometimes")),
    (POD, pod(dnsPolicy="Sometimes")),
    (POD, pod(activeDeadlineSeconds=0)),
    (POD, pod(hostname="A_B")),
    (POD, pod(nodeSelector={"a b": "c"})),
    (POD, pod(schedulingGates=[{"name": "example.org/a"}], nodeName="n")),
    (POD, pod(securityContext={"runAsUser": -1})),
    (POD, pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}])),
    (POD, pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}])),
    (POD, pod(volumes=[EMPTY, EMPTY])),
    (POD, required([])),
    (POD, mounted(mountPath="")),
    (POD, mounted(mountPath="/x", subPath="../y")),
    (POD, mounted(mountPath="/x", mountPropagation="Bidirectional")),
    (POD, container(volumeMounts=[{"name": "nowhere", "mountPath": "/x"}])),
    (POD, container(imagePullPolicy="Sometimes")),
    (POD, container(ports=[{"containerPort": 70000}])),
    (POD, container(env=[{"name": "a=b"}])),
    (POD, container(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])),
    (POD, container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nonsense"}}}])),
    (POD, container(envFrom=[{}])),
    (POD, container(resources={"requests": {"cpu": "x"}})),
    (POD, container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
    (POD, container(livenessProbe={})),
    (POD, container(livenessProbe={"httpGet": {"port": 80}, "exec": {"command": ["x"]}})),
    (POD, container(livenessProbe={"successThreshold": 2, "exec": {"command": ["x"]}})),
    (POD, container(securityContext={"privileged": True, "allowPrivilegeEscalation": False})),
    (POD, container(securityContext={"runAsUser": -1})),
    (POD, {"metadata": {"finalizers": ["nodomain"]}, **pod()}),
    (POD, {"metadata": {"annotations": {"a b": "c"}}, **pod()}),
    (POD, {"metadata": {"labels": {"a": "x" * 64}}, **pod()}),
    (CONFIG_MAP, {"data": {"a b": "1"}}),
    (CONFIG_MAP, {"data": {"..": "1"}}),
    (CONFIG_MAP, {"data": {"a": "1"}, "binaryData": {"a": "AAA="}}),
    (CONFIG_MAP, {"binaryData": {"a": "!"}}),
    (SECRET, {"data": {"a": "!"}}),
    (SECRET, {"type": "kubernetes.io/tls"}),
    (SECRET, {"type": "kubernetes.io/basic-auth"}),
    (SERVICE, {"spec": {"ports": []}}),
    (SERVICE, {"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
    (SERVICE, {"spec": {"ports": [{"port": 0}]}}),
    (SERVICE, {"spec": {"type": "ExternalName"}}),
    (SERVICE, {"spec": {"type": "Other", "ports": [{"port": 80}]}}),
    (PERSISTENT_VOLUME_CLAIM, {}),
    (PERSISTENT_VOLUME_CLAIM, claim(accessModes=[])),
    (PERSISTENT_VOLUME_CLAIM, claim(accessModes=["Sometimes"])),
    (PERSISTENT_VOLUME_CLAIM, claim(resources={})),
    (PERSISTENT_VOLUME_CLAIM, claim(resources={"requests": {"storage": "0"}})),
    (PERSISTENT_VOLUME_CLAIM, claim(resources={"requests": {"storage": "x"}})),
    (PERSISTENT_VOLUME_CLAIM, claim(storageClassName="A B")),
    (PERSISTENT_VOLUME, volume(csi={"driver": "d"})),
    (PERSISTENT_VOLUME, volume(hostPath={"path": "/a"}, csi={"driver": "d", "volumeHandle": "h"})),
    (PERSISTENT_VOLUME, volume(hostPath={"path": "../a"})),
    (PERSISTENT_VOLUME, volume(hostPath={"path": "/a"}, capacity={})),
    (PERSISTENT_VOLUME, volume(hostPath={"path": "/a"}, persistentVolumeReclaimPolicy="Sometimes")),
    (PERSISTENT_VOLUME, volume(local={"path": "/a"})),
    (PERSISTENT_VOLUME, volume(hostPath={"path": "/a"}, accessModes=["ReadWriteOncePod", "ReadWriteOnce"])),
    (NAMESPACE, {"metadata": {"name": "a.b"}}),
    (NODE, {"spec": {"taints": [{"key": "a", "effect": "Sometimes"}]}}),
    (STORAGE_CLASS, {}),
    (STORAGE_CLASS, {"provisioner": "p", "volumeBindingMode": "Sometimes"}),
    (CSI_DRIVER, {"spec": {"volumeLifecycleModes": ["Sometimes"]}}),
    (LEASE, {"spec": {"leaseDurationSeconds": 0}}),
    (EVENT, {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "elsewhere"}}),
    (EVENT, {}),
    (PRIORITY_CLASS, {"value": 2_000_000_000}),
    (PRIORITY_CLASS, {"metadata": {"name": "system-x"}, "value": 1}),
]


@pytest.mark.parametrize(("kind", "body"), REFUSED, ids=lambda value: getattr(value, "name", None))
async def test_refusals(server: Cluster, room: str, kind: Kind[Any], body: Json) -> None:
    with pytest.raises(InvalidSpec):
        await create(server, room, kind, body)
