"""Which requests the API server asks our webhooks about, and what it does when nobody answers.

Closed (nothing passes unasked) where Headrace's word is needed: in projects, for pods that ask for sidecars by label,
and for our own kinds, except for what our controllers write there. Nothing else is sent, so a cluster goes on without us. Headrace's own namespace is never asked
about, or a cluster could not start what answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.install.names import CONTROLLER, WEBHOOKS
from headrace.spec.kind import Json
from headrace.spec.names import (
    FLUID_GROUP,
    FUSE_SIDECAR_INJECT_LABEL,
    HEADRACE_GROUP,
    NAMESPACE_NAME_LABEL,
    PROJECT_LABEL,
    SERVERLESS_INJECT_LABEL,
)

ADMISSION_API = "admissionregistration.k8s.io/v1"
TIMEOUT_S = 10

ClientConfig = Callable[[str], Json]
"""A path, such as `/mutate`, to how the API server reaches it."""


def through_service(service: str, namespace: str) -> ClientConfig:
    """Return how webhooks are reached in a cluster."""
    return lambda path: {"service": {"name": service, "namespace": namespace, "path": path, "port": 443}}


def at_url(url: str) -> ClientConfig:
    """Return how webhooks are reached elsewhere, such as on the API server's own machine."""
    return lambda path: {"url": f"{url.rstrip('/')}{path}"}


def webhook_configurations(home: str, reached: ClientConfig) -> list[Json]:
    """Return both configurations. They trust nobody yet: the controller that leads writes `caBundle`."""
    pods = [_rule("", ["pods"], ["CREATE"])]
    own = [_rule(FLUID_GROUP, ["*"], ["CREATE", "UPDATE"]), _rule(HEADRACE_GROUP, ["*"], ["CREATE", "UPDATE"])]
    used = ["datasets", "thinruntimes", "thinruntimeprofiles"]
    checked = [
        *(_rule(group, ["*"], ["CREATE", "UPDATE"]) for group in (FLUID_GROUP, HEADRACE_GROUP)),
        _rule(FLUID_GROUP, used, ["DELETE"]),
    ]
    guarded = [
        _rule("", ["pods"], ["UPDATE"]),  # what is made is checked by the policy `headrace-authors`, without a call
        _rule("", ["pods/ephemeralcontainers"], ["UPDATE"]),
        _rule("", ["pods/exec", "pods/attach"], ["CONNECT"]),
    ]
    ours = f"system:serviceaccount:{home}:{CONTROLLER}"
    others = [{"name": "not-by-our-controllers", "expression": f"request.userInfo.username != '{ours}'"}]
    in_projects = [{"key": PROJECT_LABEL, "operator": "Exists"}]
    elsewhere = [{"key": PROJECT_LABEL, "operator": "DoesNotExist"}]
    return [
        _configuration(
            "MutatingWebhookConfiguration",
            [
                # Other webhooks may add volumes afterwards; then we are asked again, and find our own work done.
                {**_hook("pods", pods, reached("/mutate"), home, in_projects), "reinvocationPolicy": "IfNeeded"},
                *(
                    {
                        **_hook(name, pods, reached("/mutate"), home, elsewhere, objects={label: "true"}),
                        "reinvocationPolicy": "IfNeeded",
                    }
                    for name, label in _ASKING.items()
                ),
                {**_hook("objects", own, reached("/mutate"), "", ()), "matchConditions": others},
            ],
        ),
        _configuration(
            "ValidatingWebhookConfiguration",
            [
                _hook("pods", guarded, reached("/validate"), home, in_projects),
                {**_hook("objects", checked, reached("/validate"), "", ()), "matchConditions": others},
            ],
        ),
    ]


_ASKING = {"asking-pods": SERVERLESS_INJECT_LABEL, "asking-pods-of-old": FUSE_SIDECAR_INJECT_LABEL}


def _configuration(kind: str, hooks: Sequence[Json]) -> Json:
    return {"apiVersion": ADMISSION_API, "kind": kind, "metadata": {"name": WEBHOOKS}, "webhooks": list(hooks)}


def _hook(
    name: str,
    rules: Sequence[Json],
    client: Json,
    home: str,
    spaces: Sequence[Json],
    *,
    objects: Json | None = None,
) -> Json:
    never = [{"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system", home]}] if home else []
    expressions = [*spaces, *never]
    hook: Json = {
        "name": f"{name}.{HEADRACE_GROUP}",
        "admissionReviewVersions": ["v1"],
        "clientConfig": client,
        "rules": list(rules),
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": TIMEOUT_S,
        "namespaceSelector": {"matchExpressions": expressions} if expressions else {},
        "objectSelector": {"matchLabels": objects} if objects else {},
    }
    return hook


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Json:
    version = "v1" if not group else "v1alpha1"
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": list(resources),
        "operations": list(verbs),
        "scope": "*",
    }
