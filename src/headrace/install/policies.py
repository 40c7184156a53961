"""Rules that the API server enforces itself (ValidatingAdmissionPolicy, admissionregistration.k8s.io/v1), everywhere.

They hold where our webhooks are not asked, outside of projects, and while no webhook runs. Exempt is who may `bypass`
the resource `policies.headrace.io`: a right that nothing but RBAC knows, and that cluster administrators have because
they may do everything.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.spec.kind import Json
from headrace.spec.names import (
    FLUID_GROUP,
    HEADRACE_GROUP,
    HEADRACE_VERSION,
    MATERIALISE_PREFIX,
    PROJECT_LABEL,
    PVC_PROTECTION_FINALIZER,
    RUNTIME_PROFILE_LABEL,
    SIDECAR_PREFIX,
    SUBMITTED_BY_ANNOTATION,
)

API = "admissionregistration.k8s.io/v1"
CLIENTS_POLICY, DEBUGGING_POLICY, CLAIMS_POLICY, AUTHORS_POLICY, PROJECTS_POLICY, NODE_MOUNTS_POLICY = (
    "headrace-clients",
    "headrace-debugging",
    "headrace-claims",
    "headrace-authors",
    "headrace-projects",
    "headrace-node-mounts",
)
_EXEMPT = (
    f'authorizer.group("{HEADRACE_GROUP}").resource("policies").namespace(request.namespace).check("bypass").allowed()'
)
_OF_KUBERNETES = '["system:kube-controller-manager", "system:serviceaccount:kube-system:pvc-protection-controller"]'


_SPEAKS = (
    f'authorizer.group("{HEADRACE_GROUP}").resource("authors").namespace(request.namespace).check("name").allowed()'
)
"""Whoever makes pods for others says for whom."""


def _is_client(name: str) -> str:
    """Of a container, or of a pod that is nothing but a client."""
    return f'{name}.startsWith("{SIDECAR_PREFIX}") || {name}.startsWith("{MATERIALISE_PREFIX}")'


def policies() -> list[Json]:
    """Return the policies, each with its binding."""
    return [
        *_policy(
            CLIENTS_POLICY,
            {"apiGroups": [""], "resources": ["pods/exec", "pods/attach"], "operations": ["CONNECT"]},
            f"!({_is_client('request.name')}) && (!has(object.container) || !({_is_client('object.container')}))",
            "This container is a dataset's client and holds its storage's secret. Read what it says with kubectl logs.",
        ),
        *_policy(
            DEBUGGING_POLICY,
            {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "operations": ["UPDATE"]},
            f"!({_is_client('request.name')}) && "
            "(!has(object.spec.ephemeralContainers) || object.spec.ephemeralContainers.all(c, "
            f"!(has(c.targetContainerName) && ({_is_client('c.targetContainerName')})) && "
            f"!(has(c.volumeMounts) && c.volumeMounts.exists(m, {_is_client('m.name')}))))",
            "A debugging container may not join a dataset's client, nor mount what is the client's: its storage's "
            "secret is there. Debug the container of the app.",
        ),
        *_policy(
            CLAIMS_POLICY,
            {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "operations": ["UPDATE"]},
            f"request.userInfo.username in {_OF_KUBERNETES} || !({_holds('oldObject')}) || {_holds('object')}",
            "This claim is shared with other pools, and what holds it back while pods use it may not be taken off. "
            "End the pods; the claim goes by itself.",
            when=[
                {
                    "name": "shared",
                    "expression": "has(oldObject.metadata.labels) && "
                    f'"{RUNTIME_PROFILE_LABEL}" in oldObject.metadata.labels',
                }
            ],
        ),
        *_policy(
            AUTHORS_POLICY,
            {"apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]},
            f"object.metadata.?annotations[?'{SUBMITTED_BY_ANNOTATION}'].orValue('') in ['', request.userInfo.username] "
            f"|| {_SPEAKS}",
            f"The annotation {SUBMITTED_BY_ANNOTATION} says who submitted the pod, which is somebody else here. Another "
            "admission webhook changes it; look for that.",
            spaces=[{"key": PROJECT_LABEL, "operator": "Exists"}],
            has_exemptions=False,
        ),
        *_elsewhere(),
    ]


def own_node_only(account: str, namespace: str) -> list[Json]:
    """Return the policy that keeps each volume driver to the NodeMounts of its own node: the token says which that is.

    Source: Kubernetes documentation, "Service account token node information", since 1.30 as are these policies.
    """
    node = 'request.userInfo.extra[?"authentication.kubernetes.io/node-name"][0].orValue("")'
    asked = '(request.operation == "DELETE" ? oldObject : object).spec.nodeName'
    return _policy(
        NODE_MOUNTS_POLICY,
        {
            "apiGroups": [HEADRACE_GROUP],
            "resources": ["nodemounts"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "apiVersions": [HEADRACE_VERSION],
            "scope": "Cluster",
        },
        f'{node} != "" && {asked} == {node}',
        "A node's volume driver asks for mounts on its own node only.",
        when=[
            {
                "name": "driver",
                "expression": f'request.userInfo.username == "system:serviceaccount:{namespace}:{account}"',
            }
        ],
        has_exemptions=False,
    )


def _elsewhere() -> list[Json]:
    """Return the policy that warns whoever writes what we work with where we have no right to work."""
    label = f"'{RUNTIME_PROFILE_LABEL}'"
    ours = [
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "resources": ["*"],
            "operations": ["CREATE"],
            "scope": "Namespaced",
        }
        for group in (FLUID_GROUP, HEADRACE_GROUP)
    ]
    claims = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["persistentvolumeclaims"],
        "operations": ["CREATE", "UPDATE"],
        "scope": "Namespaced",
    }
    labelled = (
        f"request.resource.group != '' || ({label} in object.metadata.?labels.orValue({{}}) && "
        f"(request.operation == 'CREATE' || !({label} in oldObject.metadata.?labels.orValue({{}}))))"
    )
    message = (
        "'namespace ' + request.namespace + ' is no project of Headrace, so nothing is done with this. Whoever installed "
        "Headrace makes it one, and then it goes on by itself: headrace install --project ' + request.namespace"
    )
    spec: Json = {
        "failurePolicy": "Ignore",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {"matchExpressions": [{"key": PROJECT_LABEL, "operator": "DoesNotExist"}]},
            "objectSelector": {},
            "resourceRules": [claims, *ours],
        },
        "matchConditions": [{"name": "asks-for-us", "expression": labelled}],
        "validations": [{"expression": "false", "message": "This is no project.", "messageExpression": message}],
    }
    return _bound(PROJECTS_POLICY, spec, "Warn")


def _holds(claim: str) -> str:
    return f'(has({claim}.metadata.finalizers) && "{PVC_PROTECTION_FINALIZER}" in {claim}.metadata.finalizers)'


def _policy(
    name: str,
    rule: Json,
    holds: str,
    message: str,
    *,
    when: Sequence[Json] = (),
    spaces: Sequence[Json] = (),
    has_exemptions: bool = True,
) -> list[Json]:
    rules = [{"apiVersions": ["v1"], "scope": "Namespaced", **rule}]
    exempt = [{"name": "not-exempt", "expression": f"!{_EXEMPT}"}] if has_exemptions else []
    conditions = [*when, *exempt]
    spec: Json = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {"matchExpressions": list(spaces)} if spaces else {},
            "objectSelector": {},
            "resourceRules": rules,
        },
        **(
            {"matchConditions": conditions} if conditions else {}
        ),  # an empty list is not kept, and so written each time
        "validations": [{"expression": holds, "message": message, "reason": "Forbidden"}],
    }
    return _bound(name, spec, "Deny")


def _bound(name: str, spec: Json, action: str) -> list[Json]:
    meta = {"name": name}
    return [
        {"apiVersion": API, "kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": spec},
        {
            "apiVersion": API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": meta,
            "spec": {"policyName": name, "validationActions": [action]},
        },
    ]
