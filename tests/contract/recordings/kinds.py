"""Sequences about kinds: metadata of all, core kinds, custom resources, and what kubectl applied before."""

from __future__ import annotations

from tests.contract.recordings.making import (
    CONFIG_MAP,
    CORE,
    MAIN,
    POD,
    THEN,
    WIDGET,
    apply,
    condition,
    config_map,
    create,
    dataset,
    force,
    gadget,
    gadgets,
    job,
    made,
    patch,
    path,
    pod,
    read,
    service,
    update,
    widget,
    widget_status,
)
from tests.contract.recordings.steps import MERGE, NAMESPACE, STRATEGIC, Step

OF_KINDS: dict[str, list[Step]] = {
    # -- metadata -----------------------------------------------------------------------------------------------------
    "finalizers are a set": [
        apply(config_map({"finalizers": ["example.org/a"]})),
        apply(config_map({"finalizers": ["example.org/b", "example.org/a"]}), "two"),
        patch(CONFIG_MAP, {"metadata": {"finalizers": ["example.org/a", "example.org/b", "example.org/c"]}}),
        apply(config_map()),
        apply(config_map({"finalizers": ["example.org/b"]}), "two"),
        apply(config_map(), "two"),
        patch(CONFIG_MAP, {"metadata": {"finalizers": None}}),
    ],
    "owners are a map by uid": [
        create(config_map({"name": "owner"})),
        apply(
            config_map(
                {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "{uid}"}]}
            )
        ),
        read(config_map({"name": "owner"})),
        apply(
            config_map(
                {
                    "ownerReferences": [
                        {
                            "apiVersion": "v1",
                            "kind": "ConfigMap",
                            "name": "owner",
                            "uid": "{uid}",
                            "blockOwnerDeletion": False,
                        }
                    ]
                }
            ),
            "two",
        ),
        apply(config_map()),
    ],
    "labels and annotations": [
        create(config_map({"labels": {"a": "1"}, "annotations": {"n": "1"}})),
        apply(config_map({"labels": {"b": "1"}, "annotations": {"n": "1"}})),
        patch(CONFIG_MAP, {"metadata": {"labels": None}}),
        apply(config_map({"labels": {"a": "1"}})),
    ],
    # -- core kinds ---------------------------------------------------------------------------------------------------
    "a pod that is created": [
        create(
            pod(
                MAIN
                | {
                    "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}],
                    "env": [{"name": "A", "value": "1"}],
                    "resources": {"limits": {"cpu": "1"}},
                    "volumeMounts": [{"name": "v", "mountPath": "/a"}],
                },
                metadata={"labels": {"l": "1"}},
                volumes=[{"name": "v", "emptyDir": {}}],
                nodeSelector={"a": "b"},
                tolerations=[{"key": "a", "operator": "Exists"}],
            )
        ),
    ],
    "a pod that is applied": [
        apply(
            pod(
                MAIN
                | {
                    "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "command": ["a", "b"],
                    "resources": {"limits": {"cpu": "1"}},
                },
                volumes=[{"name": "v", "emptyDir": {}}],
                nodeSelector={"a": "b"},
            )
        ),
        apply(made("Pod", "v1", {"spec": {"containers": [{"name": "main", "image": "image:2"}]}}, None), "two"),
        force(made("Pod", "v1", {"spec": {"containers": [{"name": "main", "image": "image:2"}]}}, None), "two"),
        apply(pod(MAIN, metadata={"labels": {"l": "1"}})),
    ],
    "a pod's status": [
        create(POD),
        patch(
            POD,
            {
                "status": {
                    "phase": "Running",
                    "podIPs": [{"ip": "10.0.0.1"}],
                    "podIP": "10.0.0.1",
                    "conditions": [
                        condition("Ready", "False", lastTransitionTime=THEN, lastProbeTime=THEN),
                        condition("Initialized", "True", lastTransitionTime=THEN, lastProbeTime=THEN),
                    ],
                    "containerStatuses": [
                        {
                            "name": "main",
                            "image": "i",
                            "imageID": "i",
                            "ready": True,
                            "restartCount": 0,
                            "state": {},
                            "lastState": {},
                        }
                    ],
                }
            },
            "status",
            STRATEGIC,
            "kubelet/v1",
        ),
        patch(
            POD,
            {"metadata": {"labels": {"l": "1"}}, "spec": {"schedulerName": "x"}, "status": {"phase": "Succeeded"}},
            "status",
            MERGE,
            "kubelet/v1",
        ),
        apply(
            made(
                "Pod", "v1", {"status": {"conditions": [condition("Ready", "True"), condition("Mine", "True")]}}, None
            ),
            "prober",
            sub="status",
        ),
        force(
            made(
                "Pod", "v1", {"status": {"conditions": [condition("Ready", "True"), condition("Mine", "True")]}}, None
            ),
            "prober",
            "status",
        ),
        apply(made("Pod", "v1", {"status": {"phase": "Failed"}}, None), "main"),
    ],
    "the ports of a service": [
        create(service({"name": "a", "port": 80}, selector={"a": "b"})),
        apply(service({"name": "b", "port": 81, "targetPort": "web"})),
        apply(service({"name": "b", "port": 81, "protocol": "UDP"}, {"name": "a", "port": 80}), "two"),
        apply(service({"name": "a", "port": 80, "targetPort": 8080}), "two"),
        apply(service(selector={"c": "d"}), "two"),
    ],
    "a claim": [
        create(
            made(
                "PersistentVolumeClaim",
                "v1",
                {
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "storageClassName": "none",
                        "resources": {"requests": {"storage": "1Gi"}},
                    }
                },
                None,
            )
        ),
        apply(
            made(
                "PersistentVolumeClaim",
                "v1",
                {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
                {"labels": {"l": "1"}},
            )
        ),
    ],
    "secrets, accounts and priorities": [
        create(made("Secret", "v1", {"stringData": {"a": "b"}}, None)),
        apply(made("Secret", "v1", {"data": {"a": "Yw=="}, "type": "Opaque"}, None)),
        force(made("Secret", "v1", {"data": {"a": "Yw=="}}, None)),
        apply(made("Secret", "v1", {"stringData": {"c": "d"}}, None)),
        create(made("ServiceAccount", "v1", {"imagePullSecrets": [{"name": "s"}]}, None)),
        apply(made("ServiceAccount", "v1", {"imagePullSecrets": [{"name": "t"}]}, None)),
    ],
    "a pod with a variable twice": [
        create(pod(MAIN | {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]})),
        patch(POD, {"metadata": {"labels": {"l": "1"}}}),
        apply(pod(MAIN | {"env": [{"name": "A", "value": "2"}, {"name": "A", "value": "2"}]})),
    ],
    "a name that is generated": [
        create(made("ConfigMap", "v1", {"data": {"a": "1"}}, {"name": "", "generateName": "made-"})),
        Step("POST", f"{CORE}/configmaps?dryRun=All", {"metadata": {"generateName": "made-"}, "data": {"a": "1"}}),
    ],
    "an object that is being deleted": [
        apply(config_map({"finalizers": ["example.org/a", "example.org/b"]}, a="1")),
        Step("DELETE", path(CONFIG_MAP)),
        apply(config_map({"finalizers": ["example.org/a", "example.org/b"]}, a="2")),
        apply(config_map({"finalizers": ["example.org/c"]}, a="2"), "two"),
        apply(config_map(a="2"), "two"),
        apply(config_map({"finalizers": ["example.org/a"]}, a="2")),
        patch(CONFIG_MAP, {"metadata": {"finalizers": None}}),
        read(CONFIG_MAP),
    ],
    "kinds without a namespace": [
        apply(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": NAMESPACE},
                "value": 7,
            },
            at=f"/apis/scheduling.k8s.io/v1/priorityclasses/{NAMESPACE}",
        ),
        apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": NAMESPACE},
                "provisioner": "example.org/none",
                "parameters": {"a": "1"},
            },
            at=f"/apis/storage.k8s.io/v1/storageclasses/{NAMESPACE}",
        ),
        Step(
            "PATCH",
            f"/apis/storage.k8s.io/v1/storageclasses/{NAMESPACE}",
            {"parameters": {"b": "2"}, "allowVolumeExpansion": True},
            MERGE,
        ),
        Step(
            "POST",
            "/apis/storage.k8s.io/v1/csidrivers",
            {"metadata": {"name": NAMESPACE}, "spec": {"volumeLifecycleModes": ["Ephemeral"]}},
        ),
        apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": NAMESPACE, "labels": {"l": "1"}},
            },
            at=f"/api/v1/namespaces/{NAMESPACE}",
        ),
    ],
    "leases and events": [
        Step(
            "POST",
            f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases",
            {"metadata": {"name": "x"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}},
        ),
        apply(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "x"},
                "spec": {"holderIdentity": "b"},
            },
            at=f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/x",
        ),
        Step(
            "POST",
            f"{CORE}/events",
            {
                "metadata": {"name": "x"},
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": NAMESPACE},
                "reason": "R",
                "message": "m",
                "source": {"component": "c"},
                "firstTimestamp": THEN,
                "lastTimestamp": THEN,
                "count": 1,
                "type": "Normal",
            },
        ),
    ],
    # -- custom resources ---------------------------------------------------------------------------------------------
    "a custom resource that is created": [
        create(
            widget(
                {"labels": {"l": "1"}},
                text="a",
                items=[{"name": "a", "value": 1}],
                set=["a", "b"],
                list=[{"name": "a"}],
                map={"a": "1"},
                whole={"a": "1"},
                free={"a": {"b": [1]}},
            )
        ),
        update(widget({"resourceVersion": "{version}"}, text="b", set=["b"])),
    ],
    "lists and maps of a custom resource": [
        apply(
            widget(
                items=[{"name": "a", "value": 1}],
                set=["a"],
                list=[{"name": "a"}],
                map={"a": "1"},
                whole={"a": "1"},
                free={"a": 1},
            )
        ),
        apply(
            widget(
                items=[{"name": "b", "value": "x"}, {"name": "a", "zone": "b"}],
                set=["b", "a"],
                map={"b": "1"},
                free={"b": {"c": 1}},
            ),
            "two",
        ),
        apply(widget(whole={"b": "1"}, list=[{"name": "b"}]), "two"),
        force(widget(whole={"b": "1"}, list=[{"name": "b"}]), "two"),
        apply(widget(map={"a": "1"})),
        apply(widget(), "two"),
        apply(widget()),
    ],
    "maps that lose all that is in them": [
        apply(widget(text="a", map={"a": "1"}, free={"a": {"b": 1}})),
        apply(widget(text="a", map={}, free={"a": {}})),
        apply(widget(text="a")),
        create(config_map({"name": "y"}, a="1")),
        apply(config_map({"name": "y"}, a="1", b="1")),
        apply(made("ConfigMap", "v1", {"data": {}}, {"name": "y"})),
        patch(config_map({"name": "y"}), {"data": {"a": None}}),
    ],
    "nulls": [
        apply(made("ConfigMap", "v1", {"data": None}, {"labels": None})),
        apply(widget(text=None, map=None, replicas=1)),
        patch(CONFIG_MAP, {"data": {"a": "1"}}),
        apply(made("ConfigMap", "v1", {"data": {"a": None}}, None), "two"),
    ],
    "an object that is patched into having nothing": [
        create(config_map(a="1")),
        patch(CONFIG_MAP, {"data": None}),
        patch(CONFIG_MAP, {"data": {"b": "1"}}, agent="third/1"),
    ],
    "the status of a custom resource": [
        apply(widget(replicas=1)),
        apply(widget_status(condition("Ready", "False", reason="New"), replicas=1), "operator", sub="status"),
        patch(WIDGET, {"status": {"conditions": [condition("Ready", "True")]}}, "status", MERGE, "patcher/1"),
        apply(widget_status(condition("Ready", "False"), replicas=2), "operator", sub="status"),
        force(widget_status(condition("Ready", "False"), condition("Known", "True")), "operator", "status"),
        apply(widget(replicas=2) | {"status": {"replicas": 7}}),
        patch(WIDGET, {"metadata": {"labels": {"l": "1"}}, "spec": {"text": "b"}, "status": {"replicas": 3}}, "status"),
        apply(widget_status(), "operator", sub="status"),
    ],
    "the scale of a custom resource": [
        apply(widget(replicas=1)),
        patch(WIDGET, {"spec": {"replicas": 3}}, "scale", MERGE, "scaler/1"),
        apply(widget(replicas=2)),
        read(WIDGET),
        Step("PUT", path(WIDGET, "scale"), made("Scale", "autoscaling/v1", {"spec": {"replicas": 4}}, None)),
        read(WIDGET),
        force(widget(replicas=2, text="a")),
    ],
    "a dataset": [
        create(dataset({"mountPoint": "s3://b/a", "name": "a"})),
        apply(dataset({"mountPoint": "s3://b/b", "name": "b"})),
        force(dataset({"mountPoint": "s3://b/b", "name": "b"}, later="kept")),
        patch(dataset(), {"status": {"phase": "Bound"}}, "status", MERGE, "controller/1"),
        apply(dataset({"mountPoint": "s3://b/b", "name": "b"})),
    ],
    "a job": [
        apply(job(workers=2, env={"A": "1"})),
        apply(job({"labels": {"l": "1"}}, workers=2), "two"),
        apply(job(workers=3), "two"),
        patch(job(), {"status": {"phase": "Queued"}}, "status", MERGE, "controller/1"),
        apply(job(env={"A": "1"})),
        apply(job(wrokers=2)),
    ],
    "an object in two versions": [
        apply(gadget("v1", text="a", map={"a": "1"}, set=["a"]), at=gadgets("v1")),
        apply(gadget("v2", text="a", map={"b": "1"}), "two", at=gadgets("v2")),
        apply(gadget("v2", text="b"), "two", at=gadgets("v2")),
        Step("PATCH", gadgets("v2"), {"spec": {"map": {"a": "2"}}}, MERGE, "patcher/1"),
        apply(gadget("v1", text="c", map={"a": "1"}), at=gadgets("v1")),
        apply(gadget("v2", text="b", set=["b"]), "two", "force=true", at=gadgets("v2")),
        apply(gadget("v2", set=["b"]), at=gadgets("v2")),
        apply(gadget("v2"), at=gadgets("v2")),
        Step("GET", gadgets("v1")),
    ],
    # -- kubectl ------------------------------------------------------------------------------------------------------
    "kubectl's client-side apply is taken over": [
        create(
            config_map(
                {
                    "annotations": {
                        "kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion":"v1","data":{"a":"1","b":"1"},'
                        '"kind":"ConfigMap","metadata":{"annotations":{},"name":"x","namespace":"NAMESPACE"}}\n'
                    }
                },
                a="1",
                b="1",
            ),
            "fieldManager=kubectl-client-side-apply",
        ),
        apply(config_map(a="2", b="1"), "other"),
        apply(config_map(a="2", b="1"), "kubectl"),
        patch(CONFIG_MAP, {"data": {"b": "9"}}),
        apply(config_map(a="3", b="2"), "kubectl"),
    ],
}
