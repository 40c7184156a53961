"""Rules that the API server enforces itself (ValidatingAdmissionPolicy, admissionregistration.k8s.io/v1), everywhere.

They hold where our webhooks are not asked, outside of projects, and while no webhook runs. Exempt is who may `bypass`
the resource `policies.headrace.io`: a right that nothing but RBAC knows, and that cluster administrators have because
they may do everything.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.spec.kind import Json
from headrace.spec.names import (
    HEADRACE_GROUP,
    MATERIALISE_PREFIX,
    PVC_PROTECTION_FINALIZER,
    RUNTIME_PROFILE_LABEL,
    SIDECAR_PREFIX,
)

API = "admissionregistration.k8s.io/v1"
CLIENTS_POLICY, DEBUGGING_POLICY, CLAIMS_POLICY = (
    "headrace-clients",
    "headrace-debugging",
    "headrace-claims",
)
_EXEMPT = (
    f'authorizer.group("{HEADRACE_GROUP}").resource("policies").namespace(request.namespace).check("bypass").allowed()'
)
_OF_KUBERNETES = '["system:kube-controller-manager", "system:serviceaccount:kube-system:pvc-protection-controller"]'


def _is_client(name: str) -> str:
    return f'{name}.startsWith("{SIDECAR_PREFIX}") || {name}.startsWith("{MATERIALISE_PREFIX}")'


def policies() -> list[Json]:
    """Return the policies, each with its binding."""
    return [
        *_policy(
            CLIENTS_POLICY,
            {"apiGroups": [""], "resources": ["pods/exec", "pods/attach"], "operations": ["CONNECT"]},
            f"!has(object.container) || !({_is_client('object.container')})",
            "This container is a dataset's client and holds its storage's secret. Read what it says with kubectl logs.",
        ),
        *_policy(
            DEBUGGING_POLICY,
            {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "operations": ["UPDATE"]},
            "!has(object.spec.ephemeralContainers) || object.spec.ephemeralContainers.all(c, "
            f"!(has(c.targetContainerName) && ({_is_client('c.targetContainerName')})) && "
            f"!(has(c.volumeMounts) && c.volumeMounts.exists(m, {_is_client('m.name')})))",
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
    ]


def _holds(claim: str) -> str:
    return f'(has({claim}.metadata.finalizers) && "{PVC_PROTECTION_FINALIZER}" in {claim}.metadata.finalizers)'


def _policy(name: str, rule: Json, holds: str, message: str, *, when: Sequence[Json] = ()) -> list[Json]:
    rules = [{**rule, "apiVersions": ["v1"], "scope": "Namespaced"}]
    spec: Json = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": rules,
        },
        "matchConditions": [*when, {"name": "not-exempt", "expression": f"!{_EXEMPT}"}],
        "validations": [{"expression": holds, "message": message, "reason": "Forbidden"}],
    }
    meta = {"name": name}
    return [
        {"apiVersion": API, "kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": spec},
        {
            "apiVersion": API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": meta,
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]
