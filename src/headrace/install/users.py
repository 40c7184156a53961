"""What users may do, added to Kubernetes' own roles `admin`, `edit` and `view` by aggregation.

Who edits a namespace's Deployments edits its TrainJobs. Pools, queues and profiles have no namespace: a role that is bound
in one grants nothing of them, so everybody who is logged in may read them, and the cluster's administrators write them.
"""

from __future__ import annotations

from headrace.install.rbac import RBAC, READ, cluster_role, rule
from headrace.spec.kind import Json
from headrace.spec.kinds import FLUID_KINDS, HEADRACE_KINDS
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP, READS_GROUP

EDIT, VIEW, CATALOGUE = "headrace-edit", "headrace-view", "headrace-catalogue"

_FLUID = [kind.plural for kind in FLUID_KINDS if kind.namespaced]
_OURS = [kind.plural for kind in HEADRACE_KINDS if kind.namespaced]
_WRITE = ("create", "update", "patch", "delete", "deletecollection")

USERS_EDIT = [
    rule(FLUID_GROUP, _FLUID, _WRITE),
    rule(HEADRACE_GROUP, _OURS, _WRITE),
    rule(READS_GROUP, ["code"], ["update"]),
    rule(READS_GROUP, ["code/known"], ["get"]),
]
USERS_VIEW = [
    rule(FLUID_GROUP, _FLUID, READ),
    rule(HEADRACE_GROUP, _OURS, READ),
    rule(READS_GROUP, ["trainjobs/waiting", "usage"], ["get", "list"]),
    rule(READS_GROUP, ["quote"], ["create"]),  # asks, and makes nothing
]
EVERYBODY_READS = [
    rule(FLUID_GROUP, [kind.plural for kind in FLUID_KINDS if not kind.namespaced], READ),
    rule(HEADRACE_GROUP, [kind.plural for kind in HEADRACE_KINDS if not kind.namespaced], READ),
]


def user_roles() -> list[Json]:
    """Return the roles, and the binding that lets everybody read what belongs to no namespace."""
    meta = {"name": CATALOGUE}
    group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}
    return [
        _aggregated(EDIT, USERS_EDIT, "admin", "edit"),
        _aggregated(VIEW, USERS_VIEW, "admin", "edit", "view"),
        cluster_role(CATALOGUE, EVERYBODY_READS),
        {
            "apiVersion": RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": CATALOGUE},
            "subjects": [group],
        },
    ]


def _aggregated(name: str, rules: list[Json], *into: str) -> Json:
    role = cluster_role(name, rules)
    role["metadata"]["labels"] = {f"rbac.authorization.k8s.io/aggregate-to-{each}": "true" for each in into}
    return role
