"""What a server must refuse in a webhook configuration, in Kubernetes' own words.

Source: Kubernetes `pkg/apis/admissionregistration/validation`, apiserver `pkg/util/webhook/validation.go`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from headrace.ids import is_dns_1035_label, is_dns_subdomain
from headrace.spec.core.meta import LabelSelector
from headrace.spec.core.webhooks import (
    MutatingWebhook,
    MutatingWebhookConfiguration,
    RuleWithOperations,
    ServiceReference,
    ValidatingWebhook,
    ValidatingWebhookConfiguration,
    WebhookClientConfig,
)
from headrace.spec.validation.problem import Problem, Problems

REVIEW_VERSIONS = ("v1", "v1beta1")
_FAILURE_POLICIES = ("Fail", "Ignore")
_MATCH_POLICIES = ("Equivalent", "Exact")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_REINVOCATION_POLICIES = ("IfNeeded", "Never")
_SCOPES = ("*", "Cluster", "Namespaced")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_FORM = "; desired format: https://host[/path]"
_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_DNS_1035_LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")


def check_configuration(configuration: ValidatingWebhookConfiguration | MutatingWebhookConfiguration) -> Problems:
    """Report what is wrong with a configuration of either kind."""
    names: set[str] = set()
    hooks: Sequence[ValidatingWebhook] = configuration.webhooks
    for index, hook in enumerate(hooks):
        path = f"webhooks[{index}]"
        yield from _check_hook(path, hook)
        yield from _check_versions(f"{path}.admissionReviewVersions", hook.admission_review_versions)
        if hook.name in names:
            yield Problem(f"{path}.name", f"Duplicate value: {_go(hook.name)}")
        names.add(hook.name)


def _check_hook(path: str, hook: ValidatingWebhook) -> Problems:
    yield from _check_name(f"{path}.name", hook.name)
    for index, rule in enumerate(hook.rules):
        yield from _check_rule(f"{path}.rules[{index}]", rule)
    yield from _one_of(f"{path}.failurePolicy", hook.failure_policy, _FAILURE_POLICIES)
    yield from _one_of(f"{path}.matchPolicy", hook.match_policy, _MATCH_POLICIES)
    if hook.side_effects:
        yield from _one_of(f"{path}.sideEffects", hook.side_effects, _SIDE_EFFECTS)
    else:
        yield Problem(f"{path}.sideEffects", f"Required value: must specify one of {', '.join(_SIDE_EFFECTS)}")
    if not 1 <= hook.timeout_seconds <= 30:
        why = "the timeout value must be between 1 and 30 seconds"
        yield _invalid(f"{path}.timeoutSeconds", hook.timeout_seconds, why)
    yield from _check_selector(f"{path}.namespaceSelector", hook.namespace_selector)
    yield from _check_selector(f"{path}.objectSelector", hook.object_selector)
    if isinstance(hook, MutatingWebhook):
        yield from _one_of(f"{path}.reinvocationPolicy", hook.reinvocation_policy, _REINVOCATION_POLICIES)
    yield from _check_client(f"{path}.clientConfig", hook.client_config)
    if hook.match_conditions:
        yield Problem(
            f"{path}.matchConditions",
            "Forbidden: CEL expressions are not evaluated by this server; let the webhook itself answer what it has no "
            "opinion on with allowed: true, or narrow its rules and selectors",
        )


def _check_name(path: str, name: str) -> Problems:
    if not name:
        yield Problem(path, "Required value")
    elif not is_dns_subdomain(name):
        yield _invalid(path, name, _SUBDOMAIN)
    elif name.count(".") < 2:
        yield _invalid(path, name, "should be a domain with at least three segments separated by dots")


def _check_versions(path: str, versions: Sequence[str]) -> Problems:
    if not versions:
        yield Problem(path, f"Required value: must specify one of {', '.join(REVIEW_VERSIONS)}")
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield _invalid(f"{path}[{index}]", version, "duplicate version")
        elif not is_dns_1035_label(version):
            yield _invalid(f"{path}[{index}]", version, _DNS_1035_LABEL)
    if not set(versions) & set(REVIEW_VERSIONS):
        yield _invalid(path, list(versions), f"must include at least one of {', '.join(REVIEW_VERSIONS)}")


def _check_rule(path: str, rule: RuleWithOperations) -> Problems:
    yield from _check_wildcard(f"{path}.operations", rule.operations, "operations")
    for index, operation in enumerate(rule.operations):
        yield from _one_of(f"{path}.operations[{index}]", operation, _OPERATIONS)
    yield from _check_wildcard(f"{path}.apiGroups", rule.api_groups, "API groups")
    yield from _check_wildcard(f"{path}.apiVersions", rule.api_versions, "API versions")
    for index, version in enumerate(rule.api_versions):
        if not version:
            yield Problem(f"{path}.apiVersions[{index}]", "Required value")
    yield from _check_resources(f"{path}.resources", rule.resources)
    yield from _one_of(f"{path}.scope", rule.scope, _SCOPES)


def _check_wildcard(path: str, values: Sequence[str], what: str) -> Problems:
    if not values:
        yield Problem(path, "Required value")
    elif len(values) > 1 and "*" in values:
        yield _invalid(path, list(values), f"if '*' is present, must not specify other {what}")


def _check_resources(path: str, resources: Sequence[str]) -> Problems:
    if not resources:
        yield Problem(path, "Required value")
    whole: set[str] = set()
    everywhere: set[str] = set()
    for index, text in enumerate(resources):
        if not text:
            yield Problem(f"{path}[{index}]", "Required value")
        resource, slash, subresource = text.partition("/")
        if not slash:
            continue
        if resource in whole:
            yield _invalid(f"{path}[{index}]", text, f"if '{resource}/*' is present, must not specify {text}")
        if subresource in everywhere:
            yield _invalid(f"{path}[{index}]", text, f"if '*/{subresource}' is present, must not specify {text}")
        whole |= {resource} if subresource == "*" else set()
        everywhere |= {subresource} if resource == "*" else set()
    if len(resources) > 1 and "*/*" in resources:
        yield _invalid(path, list(resources), "if '*/*' is present, must not specify other resources")
    plain = [text for text in resources if text and "/" not in text]
    if "*" in plain and plain[-1] != "*":  # Kubernetes looks at the last one only
        why = "if '*' is present, must not specify other resources without subresources"
        yield _invalid(path, list(resources), why)


def _check_selector(path: str, selector: LabelSelector) -> Problems:
    for index, demand in enumerate(selector.match_expressions):
        where = f"{path}.matchExpressions[{index}]"
        if demand.operator in {"In", "NotIn"}:
            if not demand.values:
                why = "must be specified when `operator` is 'In' or 'NotIn'"
                yield Problem(f"{where}.values", f"Required value: {why}")
        elif demand.operator in {"Exists", "DoesNotExist"}:
            if demand.values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield Problem(f"{where}.values", f"Forbidden: {why}")
        else:
            yield _invalid(f"{where}.operator", demand.operator, "not a valid selector operator")
        if not _LABEL_KEY.fullmatch(demand.key):
            yield _invalid(f"{where}.key", demand.key, "name part must be a label key, such as app or example.org/app")


def _check_client(path: str, client: WebhookClientConfig) -> Problems:
    if (client.url is None) == (client.service is None):
        yield Problem(path, "Required value: exactly one of url or service is required")
    elif client.url is not None:
        yield from _check_url(f"{path}.url", client.url)
    elif client.service is not None:
        yield from _check_service(f"{path}.service", client.service)


def _check_url(path: str, text: str) -> Problems:
    try:
        url = urlsplit(text)
        host = url.netloc.rpartition("@")[2]
        _ = url.port
    except ValueError as error:
        yield Problem(path, f"Required value: url must be a valid URL: {error}{_FORM}")
        return
    if url.scheme != "https":
        yield _invalid(path, url.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    if not host:
        yield _invalid(path, "", f"host must be specified{_FORM}")
    if "@" in url.netloc:
        user = url.netloc.rpartition("@")[0]
        yield _invalid(path, user, "user information is not permitted in the URL")
    if url.fragment:
        yield _invalid(path, url.fragment, "fragments are not permitted in the URL")
    if url.query:
        yield _invalid(path, url.query, "query parameters are not permitted in the URL")


def _check_service(path: str, service: ServiceReference) -> Problems:
    for field, value in (("name", service.name), ("namespace", service.namespace)):
        if not value:
            yield Problem(f"{path}.{field}", "Required value")
    if not 1 <= service.port <= 65535:
        why = "port is not valid: must be between 1 and 65535, inclusive"
        yield _invalid(f"{path}.port", service.port, why)
    given = service.path or ""
    if given in {"", "/"}:
        return
    if given == "//":
        yield _invalid(f"{path}.path", given, "segment[0] may not be empty")
        return
    if not given.startswith("/"):
        yield _invalid(f"{path}.path", given, "must start with a '/'")
    for index, step in enumerate(given[1:].removesuffix("/").split("/")):
        if not step:
            yield _invalid(f"{path}.path", given, f"segment[{index}] may not be empty")
        elif not is_dns_subdomain(step):
            yield _invalid(f"{path}.path", given, f"segment[{index}]: {_SUBDOMAIN}")


def _one_of(path: str, value: str, allowed: Iterable[str]) -> Problems:
    if value not in allowed:
        supported = ", ".join(_go(one) for one in allowed)
        yield Problem(path, f"Unsupported value: {_go(value)}: supported values: {supported}")


def _invalid(path: str, value: Any, why: str) -> Problem:
    return Problem(path, f"Invalid value: {_go(value)}: {why}")


def _go(value: Any) -> str:
    """Return a value as Kubernetes' field errors print it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
