"""The volume driver `fuse.headrace.io` on the nodes: FUSE for sidecars that have no privilege at all.

It is the only privileged part of Headrace. See docs/volume-driver.md.
"""

from __future__ import annotations

from headrace.install.installation import Installation
from headrace.install.names import DRIVER_ROLE, NODE_PLUGIN
from headrace.install.policies import own_node_only
from headrace.install.rbac import account, bound, cluster_role, rule
from headrace.install.workloads import api_server_variables, selector
from headrace.spec.kind import Json
from headrace.spec.kinds import PRIORITY_CLASS
from headrace.spec.names import CSI_DRIVER, FLUID_GROUP, HEADRACE_GROUP, NODE_CLIENT_PRIORITY

KUBELET = "/var/lib/kubelet"
_PLUGIN = f"{KUBELET}/plugins/{CSI_DRIVER}"
_MOST_A_USER_MAY = 1_000_000_000
"""scheduling.k8s.io/v1, HighestUserDefinablePriority."""
_ENDPOINT = f"unix://{_PLUGIN}/csi.sock"

DRIVER_EVERYWHERE = [
    rule("", ["pods", "persistentvolumeclaims", "persistentvolumes"], ["get"]),
    rule(FLUID_GROUP, ["datasets", "thinruntimes", "thinruntimeprofiles"], ["get"]),
    # How it asks for a client's pod; a policy keeps each driver to its own node's.
    rule(HEADRACE_GROUP, ["nodemounts"], ["get", "list", "watch", "create", "delete"]),
]
"""No Secrets: they are the clients'. No pods to make: who steals a node's token would have the cluster."""


def node_plugin(installation: Installation) -> list[Json]:
    """Return the driver, its rights and its DaemonSet."""
    home = installation.node_namespace
    return [
        csi_driver(),
        _client_priority(),
        account(NODE_PLUGIN, home),
        cluster_role(DRIVER_ROLE, DRIVER_EVERYWHERE),
        bound(DRIVER_ROLE, DRIVER_ROLE, NODE_PLUGIN, home),
        *own_node_only(NODE_PLUGIN, home),
        _daemon_set(installation),
    ]


def csi_driver() -> Json:
    """Return the CSIDriver (storage.k8s.io/v1)."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": CSI_DRIVER},
        "spec": {
            "attachRequired": False,
            "podInfoOnMount": True,  # the driver believes nobody else about the pod
            "fsGroupPolicy": "None",  # a chown of what a client serves would reach the storage
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        },
    }


def _client_priority() -> Json:
    """Return the class of clients that serve a node's pods: an app without its data is worth nothing, so they go last."""
    return {
        "apiVersion": PRIORITY_CLASS.api_version,
        "kind": PRIORITY_CLASS.name,
        "metadata": {"name": NODE_CLIENT_PRIORITY},
        "value": _MOST_A_USER_MAY,
        "description": "Storage clients that serve Datasets to the pods of a node.",
    }


def _daemon_set(installation: Installation) -> Json:
    spec = {
        "serviceAccountName": NODE_PLUGIN,
        "priorityClassName": "system-node-critical",
        "hostPID": True,  # the broker looks whether a client that was killed has really ended
        "tolerations": [{"operator": "Exists"}],
        # A virtual node runs no CSI driver, and takes whatever tolerates everything.
        "affinity": _not_on_virtual_nodes(),
        "terminationGracePeriodSeconds": 15,
        "containers": [_container(installation)],
        "volumes": [
            {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
            for name, path in (
                ("plugin", _PLUGIN),
                ("registry", f"{KUBELET}/plugins_registry"),
                ("pods", f"{KUBELET}/pods"),
            )
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NODE_PLUGIN, "namespace": installation.node_namespace},
        "spec": {
            "selector": {"matchLabels": selector(NODE_PLUGIN)},
            "template": {"metadata": {"labels": selector(NODE_PLUGIN)}, "spec": spec},
        },
    }


def _not_on_virtual_nodes() -> Json:
    expression = {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _container(installation: Installation) -> Json:
    check = ["python", "-m", "headrace.csi.rpc.check", _ENDPOINT]
    return {
        "name": "driver",
        "image": installation.image,
        "command": ["python", "-m", "headrace.roles.csi"],
        "args": ["--endpoint", _ENDPOINT],
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
            *api_server_variables(installation),
        ],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "livenessProbe": {
            "exec": {"command": check},
            "initialDelaySeconds": 10,
            "periodSeconds": 30,
            "timeoutSeconds": 15,
            "failureThreshold": 4,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [
            {"name": "plugin", "mountPath": _PLUGIN},
            {"name": "registry", "mountPath": f"{KUBELET}/plugins_registry"},
            {"name": "pods", "mountPath": f"{KUBELET}/pods", "mountPropagation": "Bidirectional"},
        ],
    }
