"""Kinds of Kubernetes that only an installation touches. They have no typed view: nothing is read of them but metadata."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.spec.kind import Kind
from headrace.spec.kinds import (
    CONFIG_MAP,
    CRD,
    CSI_DRIVER,
    DAEMON_SET,
    LEASE,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    PRIORITY_CLASS,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
)


class Opaque(msgspec.Struct, frozen=True):
    """An object of which nothing is read."""


def _kind(group: str, name: str, plural: str, *, namespaced: bool = True, version: str = "v1") -> Kind[Opaque]:
    return Kind(group=group, version=version, name=name, plural=plural, view=Opaque, namespaced=namespaced)


_RBAC, _ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"

ROLE = _kind(_RBAC, "Role", "roles")
ROLE_BINDING = _kind(_RBAC, "RoleBinding", "rolebindings")
CLUSTER_ROLE = _kind(_RBAC, "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = _kind(_RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
DEPLOYMENT = _kind("apps", "Deployment", "deployments")
DISRUPTION_BUDGET = _kind("policy", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = _kind("networking.k8s.io", "NetworkPolicy", "networkpolicies")
ENDPOINT_SLICE = _kind("discovery.k8s.io", "EndpointSlice", "endpointslices")
API_SERVICE = _kind("apiregistration.k8s.io", "APIService", "apiservices", namespaced=False)
MUTATING_WEBHOOKS = _kind(_ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False)
VALIDATING_WEBHOOKS = _kind(
    _ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False
)
POLICY = _kind(_ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False)
POLICY_BINDING = _kind(
    _ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
)

INSTALLED_KINDS: tuple[Kind[Any], ...] = (
    *(NAMESPACE, CRD, SERVICE_ACCOUNT, SECRET, CONFIG_MAP, SERVICE, LEASE, PERSISTENT_VOLUME_CLAIM),
    *(CSI_DRIVER, PRIORITY_CLASS),
    *(ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING),
    *(DEPLOYMENT, DAEMON_SET, DISRUPTION_BUDGET, NETWORK_POLICY, ENDPOINT_SLICE),
    *(API_SERVICE, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, POLICY, POLICY_BINDING),
)
