"""Which webhooks a request concerns. Pure.

Source: Kubernetes apiserver `pkg/admission/plugin/webhook/{generic/webhook.go,predicates}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headrace.spec.core.meta import LabelSelector
from headrace.spec.core.webhooks import MutatingWebhook, RuleWithOperations, ValidatingWebhook
from headrace.spec.selectors import matches_selector

GROUP = "admissionregistration.k8s.io"
_CONFIGURATIONS = frozenset(
    f"{effect}{what}"
    for effect in ("Mutating", "Validating")
    for what in ("WebhookConfiguration", "AdmissionPolicy", "AdmissionPolicyBinding")
)


class Resource(NamedTuple):
    """A resource as rules name it."""

    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


NAMESPACES = Resource("", "v1", "namespaces")


class Asked(NamedTuple):
    """What of a request decides who is asked.

    Args:
        kind: name of what is written, such as `Pod` or `Eviction`.
        namespace: empty for objects of no namespace; a Namespace's own name for a Namespace.
        labels: of the new object and of the old one, as far as there are any.
        namespace_labels: None where the namespace is not there.
        equivalents: other versions in which the resource is served.
    """

    operation: str
    resource: Resource
    kind: str
    subresource: str = ""
    namespace: str = ""
    labels: Sequence[Mapping[str, str]] = ()
    namespace_labels: Mapping[str, str] | None = None
    equivalents: Sequence[Resource] = ()


class Hook(NamedTuple):
    """One webhook of a configuration; `id` tells it from all others, also from one of the same name."""

    configuration: str
    id: str
    webhook: ValidatingWebhook

    @property
    def is_reinvocable(self) -> bool:
        return isinstance(self.webhook, MutatingWebhook) and self.webhook.reinvocation_policy == "IfNeeded"

    @property
    def may_have_effects(self) -> bool:
        """Whether a dry run must not reach it."""
        return self.webhook.side_effects not in {"None", "NoneOnDryRun"}


def is_exempt(asked: Asked) -> bool:
    """Tell whether no webhook may be asked: configurations could otherwise make themselves unremovable."""
    return asked.resource.group == GROUP and asked.kind in _CONFIGURATIONS


def matched(hook: ValidatingWebhook, asked: Asked) -> Resource | None:
    """Return as which resource a webhook is asked about a request, None when it is not asked.

    One of the namespace's selectors can only be met when the namespace is there: the caller refuses where
    `needs_namespace` says so.
    """
    if asked.namespace_labels is not None and not _is_in_namespace(hook.namespace_selector, asked):
        return None
    if not _selects_all(hook.object_selector) and not any(
        matches_selector(hook.object_selector, labels) for labels in asked.labels
    ):
        return None
    if any(applies(rule, asked, asked.resource) for rule in hook.rules):
        return asked.resource
    if hook.match_policy != "Equivalent":
        return None
    return next(
        (other for rule in hook.rules for other in asked.equivalents if applies(rule, asked, other)),
        None,
    )


def needs_namespace(hook: ValidatingWebhook, asked: Asked) -> bool:
    """Tell whether a webhook can only be matched with the labels of a namespace, and it is not there."""
    is_concerned = bool(asked.namespace) or asked.resource.plural == NAMESPACES.plural
    return is_concerned and asked.namespace_labels is None and not _selects_all(hook.namespace_selector)


def applies(rule: RuleWithOperations, asked: Asked, resource: Resource) -> bool:
    """Tell whether a rule is about a request, seen as one of `resource`."""
    return (
        _is_in_scope(rule.scope, asked, resource)
        and _holds(rule.operations, asked.operation)
        and _holds(rule.api_groups, resource.group)
        and _holds(rule.api_versions, resource.version)
        and any(_is_resource(text, resource.plural, asked.subresource) for text in rule.resources)
    )


def _holds(words: Iterable[str], asked: str) -> bool:
    return any(word in {"*", asked} for word in words)


def _is_in_scope(scope: str, asked: Asked, resource: Resource) -> bool:
    is_namespaced = bool(asked.namespace) and resource != NAMESPACES
    return scope in {"", "*"} or (scope == "Namespaced" and is_namespaced) or (scope == "Cluster" and not is_namespaced)


def _is_resource(text: str, plural: str, subresource: str) -> bool:
    resource, _, wanted = text.partition("/")
    return resource in {"*", plural} and wanted in {"*", subresource}


def _is_in_namespace(selector: LabelSelector, asked: Asked) -> bool:
    if not asked.namespace and asked.resource.plural != NAMESPACES.plural:
        return True  # what belongs to no namespace is never exempt
    return matches_selector(selector, asked.namespace_labels or {})


def _selects_all(selector: LabelSelector) -> bool:
    return not selector.match_labels and not selector.match_expressions
