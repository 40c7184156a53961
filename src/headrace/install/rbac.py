"""Who of Headrace may do what: the least that works, and no more than that (a test runs the processes with it).

Two halves. *Cluster-wide*: reading what placement needs to see everywhere, and our own cluster-scoped objects. *In
projects only* (namespaces with the label `headrace.io/project`), by a RoleBinding in each: everything that changes a
tenant's objects, and Secrets. Nobody reads the Secrets of a whole cluster, and nobody may exec into anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.cluster.signing import KUBELET_SERVING_SIGNER
from headrace.install.names import (
    ADMISSION,
    AUTHORITY_SECRET,
    CONTROLLER,
    KEY_SECRET,
    READS_API_SERVICE,
    TLS_SECRET,
    WEBHOOKS,
)
from headrace.spec.kind import Json
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP

RBAC = "rbac.authorization.k8s.io/v1"
PROJECT_ROLE = "headrace-project"
"""ClusterRole of what the controllers do in a project; bound in projects only."""
PROJECT_FINALIZER = "headrace.io/project"
"""On the binding of that role: it goes last when a project is deleted, see `roles.projects`."""
PROJECT_READER = "headrace-project-reader"
"""ClusterRole of what admission reads in a project: which Secrets and ConfigMaps a client will find."""

READ = ("get", "list", "watch")


def rule(group: str, resources: Sequence[str], verbs: Sequence[str], *, names: Sequence[str] = ()) -> Json:
    """Return one PolicyRule."""
    found: Json = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    return {**found, "resourceNames": list(names)} if names else found


_SEEN = [
    rule("", ["namespaces", "nodes", "pods", "services", "persistentvolumes", "persistentvolumeclaims"], READ),
    rule("storage.k8s.io", ["storageclasses"], READ),
    rule(FLUID_GROUP, ["datasets", "thinruntimes", "thinruntimeprofiles", "dataloads", "dataprocesses"], READ),
    rule(HEADRACE_GROUP, ["pools", "queues", "trainjobs"], READ),
]

CONTROLLER_EVERYWHERE = [
    *_SEEN,
    rule("", ["persistentvolumes"], ["create", "patch", "delete"]),  # the volume of a plain Dataset has no namespace
    rule(HEADRACE_GROUP, ["pools/status", "queues/status", "nodemounts/status"], ["patch"]),
    rule(HEADRACE_GROUP, ["nodemounts"], [*READ, "delete"]),  # those of nodes that are no more
    # To let a joined node of a pool serve logs and exec: its certificate, and nobody else's (pools.serving_plan).
    rule("certificates.k8s.io", ["certificatesigningrequests"], READ),
    rule("certificates.k8s.io", ["certificatesigningrequests/approval"], ["patch"]),
    rule("certificates.k8s.io", ["signers"], ["approve"], names=[KUBELET_SERVING_SIGNER]),
    # To ask whether those whom the API server speaks for may read what they ask for.
    rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    # To let a deleted project go. RBAC itself sees to it that a patch gives nobody more than there is.
    rule("rbac.authorization.k8s.io", ["rolebindings"], ["get", "patch"], names=[PROJECT_ROLE]),
    # To tell the API server whom to trust.
    rule(
        "admissionregistration.k8s.io",
        ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
        ["get", "patch"],
        names=[WEBHOOKS],
    ),
    rule("apiregistration.k8s.io", ["apiservices"], ["get", "patch"], names=[READS_API_SERVICE]),
]
ADMISSION_EVERYWHERE = _SEEN

CONTROLLER_IN_PROJECTS = [
    rule("", ["secrets"], READ),
    rule("", ["configmaps"], [*READ, "create", "patch", "delete"]),
    rule("", ["pods"], ["create", "patch", "delete"]),
    rule("", ["pods/log"], ["get"]),  # the error of a storage client that does not mount
    rule("", ["services"], ["create"]),
    rule("apps", ["daemonsets"], [*READ, "create", "patch", "delete"]),  # clients that serve a node's pods
    rule("", ["persistentvolumeclaims"], ["create", "patch", "delete"]),
    rule("", ["persistentvolumeclaims/status", "persistentvolumeclaims/finalizers"], ["patch", "update"]),
    rule("", ["events"], ["get", "list", "create", "patch"]),
    rule(FLUID_GROUP, ["datasets", "thinruntimes"], ["create", "patch", "delete"]),
    rule(
        FLUID_GROUP,
        [f"{kind}/status" for kind in ("datasets", "thinruntimes", "dataloads", "dataprocesses")],
        ["patch"],
    ),
    rule(HEADRACE_GROUP, ["trainjobs/status"], ["patch"]),
    rule(HEADRACE_GROUP, ["authors"], ["name"]),  # to say of a pod whose job it is; see install.policies
    # Setting an owner that blocks deletion needs this where OwnerReferencesPermissionEnforcement is on.
    rule(FLUID_GROUP, ["datasets/finalizers", "thinruntimes/finalizers"], ["update"]),
    rule(HEADRACE_GROUP, ["trainjobs/finalizers"], ["update"]),
]
ADMISSION_IN_PROJECTS = [rule("", ["secrets", "configmaps"], READ)]

CONTROLLER_AT_HOME = [
    rule("coordination.k8s.io", ["leases"], ["create"]),
    rule("coordination.k8s.io", ["leases"], ["get", "patch"], names=[CONTROLLER]),
    rule("", ["secrets"], ["create"]),
    rule("", ["secrets"], ["get", "patch"], names=[KEY_SECRET, AUTHORITY_SECRET]),
    rule("", ["secrets"], [*READ, "patch"], names=[TLS_SECRET]),
]
ADMISSION_AT_HOME = [rule("", ["secrets"], READ, names=[TLS_SECRET])]
"""In Headrace's own namespace."""


def cluster_role(name: str, rules: Sequence[Json]) -> Json:
    return {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def role(name: str, namespace: str, rules: Sequence[Json]) -> Json:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": RBAC, "kind": "Role", "metadata": meta, "rules": list(rules)}


def bound(name: str, role_name: str, account: str, home: str, *, namespace: str = "", kind: str = "") -> Json:
    """Return the binding of a role to a service account of `home`: in a namespace, or in the whole cluster."""
    meta = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {
        "apiVersion": RBAC,
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind or "ClusterRole", "name": role_name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home}],
    }


def account(name: str, namespace: str) -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def rbac_objects(home: str) -> list[Json]:
    """Return accounts, roles and bindings of an installation in the namespace `home`, without its projects."""
    return [
        account(CONTROLLER, home),
        account(ADMISSION, home),
        cluster_role(CONTROLLER, CONTROLLER_EVERYWHERE),
        cluster_role(ADMISSION, ADMISSION_EVERYWHERE),
        cluster_role(PROJECT_ROLE, CONTROLLER_IN_PROJECTS),
        cluster_role(PROJECT_READER, ADMISSION_IN_PROJECTS),
        bound(CONTROLLER, CONTROLLER, CONTROLLER, home),
        bound(ADMISSION, ADMISSION, ADMISSION, home),
        role(CONTROLLER, home, CONTROLLER_AT_HOME),
        bound(CONTROLLER, CONTROLLER, CONTROLLER, home, namespace=home, kind="Role"),
        # Whom the API server's aggregation layer is known by.
        bound(
            "headrace-authentication-reader",
            "extension-apiserver-authentication-reader",
            CONTROLLER,
            home,
            namespace="kube-system",
            kind="Role",
        ),
        role(ADMISSION, home, ADMISSION_AT_HOME),
        bound(ADMISSION, ADMISSION, ADMISSION, home, namespace=home, kind="Role"),
    ]


def project_objects(project: str, home: str) -> list[Json]:
    """Return what lets Headrace work in a namespace."""
    working = bound(PROJECT_ROLE, PROJECT_ROLE, CONTROLLER, home, namespace=project)
    working["metadata"]["finalizers"] = [PROJECT_FINALIZER]
    return [
        working,
        bound(PROJECT_READER, PROJECT_READER, ADMISSION, home, namespace=project),
    ]
