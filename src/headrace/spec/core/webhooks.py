"""Who is asked before an object is written: webhook configurations (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from headrace.spec.core.meta import LabelSelector, ObjectMeta
from headrace.spec.view import View


class ServiceReference(View, frozen=True, kw_only=True):
    """A Service that answers over HTTPS."""

    namespace: str = ""
    name: str = ""
    path: str | None = None
    port: int = 443


class WebhookClientConfig(View, frozen=True, kw_only=True):
    """Where a webhook is, and the PEM certificates (in base64) that prove it."""

    url: str | None = None
    service: ServiceReference | None = None
    ca_bundle: str = ""


class RuleWithOperations(View, frozen=True, kw_only=True):
    """What a webhook is asked about; `*` stands for everything of its place."""

    operations: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    api_versions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    """`pods`, `pods/status`, `pods/*`, `*`, `*/status` or `*/*`."""
    scope: str = "*"


class MatchCondition(View, frozen=True, kw_only=True):
    """A CEL expression that must hold too."""

    name: str = ""
    expression: str = ""


class ValidatingWebhook(View, frozen=True, kw_only=True):
    """One webhook that may refuse."""

    name: str = ""
    client_config: WebhookClientConfig = WebhookClientConfig()
    rules: tuple[RuleWithOperations, ...] = ()
    failure_policy: str = "Fail"
    match_policy: str = "Equivalent"
    namespace_selector: LabelSelector = LabelSelector()
    object_selector: LabelSelector = LabelSelector()
    side_effects: str = ""
    timeout_seconds: int = 10
    admission_review_versions: tuple[str, ...] = ()
    match_conditions: tuple[MatchCondition, ...] = ()


class MutatingWebhook(ValidatingWebhook, frozen=True, kw_only=True):
    """One webhook that may refuse and change."""

    reinvocation_policy: str = "Never"


class ValidatingWebhookConfiguration(View, frozen=True, kw_only=True):
    """Webhooks that may refuse what is written."""

    metadata: ObjectMeta = ObjectMeta()
    webhooks: tuple[ValidatingWebhook, ...] = ()


class MutatingWebhookConfiguration(View, frozen=True, kw_only=True):
    """Webhooks that may change what is written."""

    metadata: ObjectMeta = ObjectMeta()
    webhooks: tuple[MutatingWebhook, ...] = ()
