"""The two Deployments, controllers and webhooks: as Pod Security *restricted* wants them, with a read-only root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.install.installation import DATABASE_KEY, Installation
from headrace.install.names import ADMISSION, CODE_PORT, CONTROLLER, LEDGER_CLAIM
from headrace.spec.kind import Json

USER = 65534
READS_PORT, HOOKS_PORT, MONITORING_PORT = 8443, 8443, 8080
LEDGER_VARIABLE = "HEADRACE_LEDGER_URL"
LEDGER_DIRECTORY = "/var/lib/headrace"

RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def selector(name: str) -> dict[str, str]:
    """Return the labels that a part's pods are found by."""
    return {"app.kubernetes.io/name": name}


def api_server_variables(installation: Installation) -> list[Json]:
    """Return what leads a pod to the API server where the Service `kubernetes` does not."""
    if not installation.api_server:
        return []
    host, _, port = installation.api_server.rpartition(":")
    return [
        {"name": "KUBERNETES_SERVICE_HOST", "value": host.strip("[]")},
        {"name": "KUBERNETES_SERVICE_PORT", "value": port},
    ]


def controller(installation: Installation) -> Json:
    """Return the controllers' Deployment; with SQLite one replica, which ends before its successor begins."""
    options = ["--namespace", installation.namespace, "--image", installation.image]
    ports = {"reads": READS_PORT, "code": CODE_PORT, "monitoring": MONITORING_PORT}
    container = _container("controller", installation, options, ports, [_ledger(installation)])
    container["resources"] = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    volumes: list[Json] = []
    if not installation.database_secret:
        container["volumeMounts"].append({"name": "ledger", "mountPath": LEDGER_DIRECTORY})
        volumes.append({"name": "ledger", "persistentVolumeClaim": {"claimName": LEDGER_CLAIM}})
    strategy: Json = {"type": "RollingUpdate" if installation.database_secret else "Recreate"}
    if installation.database_secret:
        strategy["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 1}
    return _deployment(CONTROLLER, installation, installation.replicas, strategy, container, volumes)


def admission(installation: Installation) -> Json:
    """Return the webhooks' Deployment: two replicas, on two nodes where there are two."""
    ports = {"webhooks": HOOKS_PORT, "monitoring": MONITORING_PORT}
    container = _container("admission", installation, ["--namespace", installation.namespace], ports, [])
    container["resources"] = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "2Gi"}}
    # The API server finds out that a pod has ended a moment after the pod was told to.
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
    strategy: Json = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return _deployment(ADMISSION, installation, 2, strategy, container, [])


def ledger_claim(installation: Installation) -> Json:
    """Return the claim that SQLite is kept in. It is user data: bills."""
    spec: Json = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": installation.ledger_size}},
    }
    if installation.storage_class:
        spec["storageClassName"] = installation.storage_class
    meta = {"name": LEDGER_CLAIM, "namespace": installation.namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def disruption_budget(name: str, namespace: str) -> Json:
    """Return the budget that leaves one replica of two alive while nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": selector(name)}},
    }


def _ledger(installation: Installation) -> Json:
    if not installation.database_secret:
        return {"name": LEDGER_VARIABLE, "value": f"sqlite:///{LEDGER_DIRECTORY}/ledger.db"}
    source = {"secretKeyRef": {"name": installation.database_secret, "key": DATABASE_KEY}}
    return {"name": LEDGER_VARIABLE, "valueFrom": source}


def _container(
    role: str, installation: Installation, options: Sequence[str], ports: dict[str, int], environment: Sequence[Json]
) -> Json:
    probe = {"port": "monitoring", "scheme": "HTTP"}
    return {
        "name": role,
        "image": installation.image,
        "command": ["python", "-m", f"headrace.roles.{role}"],
        "args": list(options),
        "env": [*environment, *api_server_variables(installation)],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "securityContext": RESTRICTED,
        "livenessProbe": {"httpGet": {"path": "/healthz", **probe}, "periodSeconds": 20, "timeoutSeconds": 10},
        # While it waits for kinds or a database it is alive and not ready.
        "startupProbe": {
            "httpGet": {"path": "/healthz", **probe},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 60,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", **probe}, "periodSeconds": 5, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _deployment(
    name: str,
    installation: Installation,
    replicas: int,
    strategy: Json,
    container: Json,
    volumes: Sequence[Json],
) -> Json:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(name)},
    }
    spec: dict[str, Any] = {
        "serviceAccountName": name,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 30,
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}, *volumes],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": installation.namespace},
        "spec": {
            "replicas": replicas,
            "strategy": strategy,
            "selector": {"matchLabels": selector(name)},
            "template": {"metadata": {"labels": selector(name)}, "spec": spec},
        },
    }
