"""metrics-server itself, built from its Go module, beside the session's cluster with the rights of its own manifest."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kubernetes.access import Access
from tests.kubernetes.fixtures import unavailable
from tests.kubernetes.roles import apply, kubeconfig_of, path_of, removed, until
from tests.storage import free_ports

from headrace.spec.kind import Json

NAME, HOME = "metrics-server", "kube-system"
API_SERVICE = "v1beta1.metrics.k8s.io"
_SOURCE = Path(__file__).parent.parent / "programs" / NAME
_RBAC = "rbac.authorization.k8s.io"
_BUILT_WITHIN_S = 1800


def build(into: Path) -> Path:
    """Return the program; the first time takes minutes, later Go has all but the linking in its cache."""
    if not shutil.which("go"):
        unavailable(
            "Go is missing, with which metrics-server is built. It is not tested that it scrapes nodes of ours."
        )
    program = into / NAME
    flags = "-trimpath -mod=readonly"  # Kubernetes' own: what both are made of is in Go's cache then
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": flags}
    package = "sigs.k8s.io/metrics-server/cmd/metrics-server"
    subprocess.run(
        ["nice", "go", "build", "-o", program, package],
        cwd=_SOURCE,
        env=environment,
        check=True,
        timeout=_BUILT_WITHIN_S,
    )
    return program


@contextmanager
def running(access: Access, authority: Path, directory: Path) -> Iterator[None]:
    """Run metrics-server, and have the API server lead `metrics.k8s.io` to it.

    Args:
        authority: who signs nodes' serving certificates.
    """
    program, [port] = build(directory), free_ports(1)
    objects = [*_rights(), *_api(port)]
    apply(access, *objects)
    kubeconfig = kubeconfig_of(access, NAME, HOME, directory)
    log = directory / "metrics-server.log"
    options = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": directory / "certificates",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-certificate-authority": authority,
        "metric-resolution": "10s",
        "kubelet-request-timeout": "5s",
    }
    words = [str(program), "--kubelet-use-node-status-port", *(f"--{name}={value}" for name, value in options.items())]
    with open(log, "wb") as out, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
        try:
            until(lambda: _is_available(access), "metrics are there", lambda: log.read_text()[-2000:])
            yield
        finally:
            process.kill()
            removed(access, [path_of(one) for one in reversed(objects)])


def _is_available(access: Access) -> bool:
    service = access.call("GET", f"/apis/apiregistration.k8s.io/v1/apiservices/{API_SERVICE}")
    conditions = (service.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)


def _rights() -> list[Json]:
    """Return what `manifests/base/rbac.yaml` of metrics-server has."""
    rules = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    reader = "extension-apiserver-authentication-reader"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": HOME}},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": f"system:{NAME}"}, "rules": rules},
        _bound("ClusterRoleBinding", f"system:{NAME}", "ClusterRole", f"system:{NAME}"),
        _bound("ClusterRoleBinding", f"{NAME}:system:auth-delegator", "ClusterRole", "system:auth-delegator"),
        _bound("RoleBinding", f"{NAME}-auth-reader", "Role", reader, namespace=HOME),
    ]


def _bound(kind: str, name: str, role_kind: str, role: str, **place: str) -> Json:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": {"name": name, **place},
        "roleRef": {"apiGroup": _RBAC, "kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": HOME}],
    }


def _api(port: int) -> list[Json]:
    # Nobody routes to Services on a control plane alone.
    spec = {"type": "ExternalName", "externalName": "127.0.0.1"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": HOME}, "spec": spec},
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": NAME, "namespace": HOME, "port": port},
            },
        },
    ]
