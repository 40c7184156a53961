"""Which webhooks a request concerns, by table."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.engine.pipeline.webhooks.matching import (
    NAMESPACES,
    Asked,
    Hook,
    Resource,
    applies,
    is_exempt,
    matched,
    needs_namespace,
)
from headrace.spec.core.meta import LabelSelector, LabelSelectorRequirement
from headrace.spec.core.webhooks import MutatingWebhook, RuleWithOperations, ValidatingWebhook

PODS = Resource("", "v1", "pods")
THINGS_1, THINGS_2 = Resource("example.org", "v1", "things"), Resource("example.org", "v2", "things")
NODES = Resource("", "v1", "nodes")
WEB = LabelSelector(match_labels={"app": "web"})
NOT_WEB = LabelSelector(match_expressions=(LabelSelectorRequirement(key="app", operator="NotIn", values=("web",)),))


def rule(
    operations: str = "CREATE", groups: str = "", versions: str = "v1", resources: str = "pods", scope: str = "*"
) -> RuleWithOperations:
    return RuleWithOperations(
        operations=tuple(operations.split()),
        api_groups=tuple(groups.split(" ")),
        api_versions=tuple(versions.split()),
        resources=tuple(resources.split()),
        scope=scope,
    )


def pod(operation: str = "CREATE", **more: Any) -> Asked:
    return Asked(operation, PODS, "Pod", **{"namespace": "n", "labels": [{}], "namespace_labels": {}, **more})


@pytest.mark.parametrize(
    ("of", "asked", "does"),
    [
        (rule(), pod(), True),
        (rule("*"), pod("DELETE"), True),
        (rule("UPDATE DELETE"), pod(), False),
        (rule(groups="*"), pod(), True),
        (rule(groups="apps"), pod(), False),
        (rule(groups="apps "), pod(), True),
        (rule(versions="*"), pod(), True),
        (rule(versions="v2"), pod(), False),
        (rule(resources="*"), pod(), True),
        (rule(resources="*"), pod(subresource="status"), False),
        (rule(resources="*/*"), pod(), True),
        (rule(resources="*/*"), pod(subresource="status"), True),
        (rule(resources="pods/*"), pod(), True),
        (rule(resources="pods/*"), pod(subresource="exec"), True),
        (rule(resources="pods/status"), pod(), False),
        (rule(resources="pods/status"), pod(subresource="status"), True),
        (rule(resources="*/status"), pod(subresource="status"), True),
        (rule(resources="*/status"), pod(subresource="exec"), False),
        (rule(resources="nodes pods"), pod(), True),
        (rule(scope="Namespaced"), pod(), True),
        (rule(scope="Cluster"), pod(), False),
        (rule(scope=""), pod(), True),
        (rule(resources="nodes", scope="Cluster"), Asked("CREATE", NODES, "Node"), True),
        (rule(resources="nodes", scope="Namespaced"), Asked("CREATE", NODES, "Node"), False),
        (rule(resources="namespaces", scope="Cluster"), Asked("CREATE", NAMESPACES, "Namespace", namespace="n"), True),
        (rule(resources="namespaces", scope="Namespaced"), Asked("CREATE", NAMESPACES, "Namespace", namespace="n"), False),
    ],
)  # fmt: skip
def test_rules(of: RuleWithOperations, asked: Asked, does: bool) -> None:
    assert applies(of, asked, asked.resource) == does


@pytest.mark.parametrize(
    ("more", "asked", "is_asked"),
    [
        ({}, pod(), True),
        ({"object_selector": WEB}, pod(labels=[{"app": "web"}]), True),
        ({"object_selector": WEB}, pod(labels=[{"app": "db"}]), False),
        ({"object_selector": WEB}, pod(labels=[{}, {"app": "web"}]), True),  # the old object had the label
        ({"object_selector": WEB}, pod(labels=[]), False),
        ({"object_selector": NOT_WEB}, pod(labels=[]), False),
        ({"object_selector": NOT_WEB}, pod(labels=[{}]), True),
        ({}, pod(labels=[]), True),
        ({"namespace_selector": WEB}, pod(namespace_labels={"app": "web"}), True),
        ({"namespace_selector": WEB}, pod(), False),
        ({"namespace_selector": NOT_WEB}, pod(namespace_labels={"app": "web"}), False),
        ({"namespace_selector": WEB}, pod(namespace_labels=None), True),  # `needs_namespace` refuses
        ({"rules": (rule("DELETE"), rule("CREATE"))}, pod(), True),
        ({"rules": ()}, pod(), False),
    ],
)
def test_selectors(more: dict[str, Any], asked: Asked, is_asked: bool) -> None:
    hook = ValidatingWebhook(**{"rules": (rule("*"),), **more})
    assert matched(hook, asked) == (PODS if is_asked else None)


def test_what_belongs_to_no_namespace_is_never_exempt() -> None:
    hook = ValidatingWebhook(rules=(rule(resources="nodes"),), namespace_selector=WEB)
    assert matched(hook, Asked("CREATE", NODES, "Node", labels=[{}])) == NODES
    assert not needs_namespace(hook, Asked("CREATE", NODES, "Node"))


@pytest.mark.parametrize(
    ("selector", "labels", "does"), [(WEB, None, True), (WEB, {}, False), (LabelSelector(), None, False)]
)
def test_a_namespace_that_is_not_there(selector: LabelSelector, labels: dict[str, str] | None, does: bool) -> None:
    assert needs_namespace(ValidatingWebhook(namespace_selector=selector), pod(namespace_labels=labels)) == does


@pytest.mark.parametrize(
    ("policy", "versions", "found"),
    [
        ("Equivalent", ("v1",), THINGS_1),
        ("Exact", ("v1",), None),
        ("Equivalent", ("v2",), THINGS_2),
        ("Equivalent", ("v1", "v2"), THINGS_2),  # what was asked for comes first
        ("Equivalent", ("v3",), None),
    ],
)
def test_equivalent_versions(policy: str, versions: tuple[str, ...], found: Resource | None) -> None:
    rules = tuple(rule(groups="example.org", versions=version, resources="things") for version in versions)
    asked = Asked("CREATE", THINGS_2, "Thing", namespace="n", labels=[{}], equivalents=[THINGS_1])
    assert matched(ValidatingWebhook(rules=rules, match_policy=policy), asked) == found


@pytest.mark.parametrize(
    ("group", "kind", "is_so"),
    [
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", True),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", True),
        ("example.org", "MutatingWebhookConfiguration", False),
        ("admissionregistration.k8s.io", "Other", False),
    ],
)
def test_configurations_are_exempt(group: str, kind: str, is_so: bool) -> None:
    assert is_exempt(Asked("CREATE", Resource(group, "v1", "x"), kind)) == is_so


@pytest.mark.parametrize(
    ("webhook", "is_reinvocable", "may_have_effects"),
    [
        (MutatingWebhook(side_effects="None"), False, False),
        (MutatingWebhook(side_effects="NoneOnDryRun", reinvocation_policy="IfNeeded"), True, False),
        (ValidatingWebhook(side_effects="Some"), False, True),
        (ValidatingWebhook(), False, True),
    ],
)
def test_policies(webhook: ValidatingWebhook, is_reinvocable: bool, may_have_effects: bool) -> None:
    hook = Hook("c", "c/h/0", webhook)
    assert (hook.is_reinvocable, hook.may_have_effects) == (is_reinvocable, may_have_effects)
