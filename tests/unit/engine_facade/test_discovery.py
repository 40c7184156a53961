"""Discovery lists what is served, follows the registry, and keeps its entity tags while nothing changes."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.engine.facade.discovery import Answered, Discovery
from headrace.engine.facade.measured import GROUP, VERSION
from headrace.engine.facade.metrics import ROWS
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import POD, SERVICE_ACCOUNT, TRAIN_JOB


class Anything(msgspec.Struct):
    """A view that reads nothing."""


def registry(*kinds: Kind[Any]) -> Registry:
    made = Registry()
    for kind in kinds:
        made.add(Resource(kind=kind))
    return made


def decoded(answered: Answered | None) -> Json:
    assert answered is not None
    found: Json = msgspec.json.decode(answered.body)
    return found


def custom(version: str) -> Kind[Anything]:
    return Kind(group="example.org", version=version, name="Thing", plural="things", view=Anything)


def test_core_resources_and_their_subresources() -> None:
    found = decoded(Discovery(registry(POD, SERVICE_ACCOUNT)).resources("", "v1"))
    assert found["groupVersion"] == "v1"
    rows = {row["name"]: row for row in found["resources"]}
    assert rows["pods"]["shortNames"] == ["po"]
    assert rows["pods"]["namespaced"] is True
    assert rows["pods/log"]["verbs"] == ["get"]
    assert rows["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "kind": "Eviction",
        "group": "policy",
        "version": "v1",
        "verbs": ["create"],
    }
    assert rows["serviceaccounts/token"]["kind"] == "TokenRequest"
    assert (rows["pods/portforward"]["kind"], rows["pods/portforward"]["verbs"]) == (
        "PodPortForwardOptions",
        ["create", "get"],
    )
    assert "pods/attach" not in rows


def test_aggregated_discovery_says_the_same() -> None:
    discovery = Discovery(registry(POD, TRAIN_JOB))
    core = decoded(discovery.aggregated(core=True))["items"][0]
    assert core["versions"][0]["resources"][0]["resource"] == "pods"
    subresources = {s["subresource"] for s in core["versions"][0]["resources"][0]["subresources"]}
    assert subresources == {"status", "log", "exec", "portforward", "binding", "eviction"}
    groups = {item["metadata"]["name"]: item["versions"] for item in decoded(discovery.aggregated(core=False))["items"]}
    assert list(groups) == ["authentication.k8s.io", "authorization.k8s.io", "headrace.io"]
    job = groups["headrace.io"][0]["resources"][0]
    assert job["scope"] == "Namespaced"
    assert job["responseKind"] == {"group": "headrace.io", "version": "v1alpha1", "kind": "TrainJob"}


def test_the_stable_version_is_preferred() -> None:
    discovery = Discovery(registry(*(custom(v) for v in ("v1alpha1", "v1beta2", "v1", "v2alpha1", "v1beta1"))))
    group = decoded(discovery.group("example.org"))
    assert group["preferredVersion"]["version"] == "v1"
    assert [v["version"] for v in group["versions"]] == ["v1", "v1beta2", "v1beta1", "v2alpha1", "v1alpha1"]
    assert "example.org" in {g["name"] for g in decoded(discovery.groups())["groups"]}


def test_extensions_are_listed_as_groups() -> None:
    discovery = Discovery(registry(POD), [("reads.headrace.io", "v1alpha1")])
    assert decoded(discovery.resources("reads.headrace.io", "v1alpha1"))["resources"] == []
    assert decoded(discovery.group("reads.headrace.io"))["preferredVersion"]["version"] == "v1alpha1"


def test_what_is_not_served_is_not_answered() -> None:
    discovery = Discovery(registry(POD))
    assert discovery.group("example.org") is None
    assert discovery.resources("example.org", "v1") is None
    assert discovery.resources("", "v2") is None


def test_documents_change_with_the_registry_and_only_then() -> None:
    kinds = registry(POD)
    discovery = Discovery(kinds)
    before = discovery.groups()
    assert discovery.groups() is before
    kinds.add(Resource(kind=custom("v1")))
    after = discovery.groups()
    assert after.etag != before.etag
    kinds.remove("example.org", "things")
    assert discovery.groups().etag == before.etag


def test_metrics_are_listed_though_no_registry_has_them() -> None:
    discovery = Discovery(registry(POD), [(GROUP, VERSION)], further=ROWS)
    [metrics] = [
        item for item in decoded(discovery.aggregated(core=False))["items"] if item["metadata"]["name"] == GROUP
    ]
    assert [
        (one["resource"], one["responseKind"]["kind"], one["scope"], one["verbs"])
        for one in metrics["versions"][0]["resources"]
    ] == [("nodes", "NodeMetrics", "Cluster", ["get", "list"]), ("pods", "PodMetrics", "Namespaced", ["get", "list"])]
    assert [row["name"] for row in decoded(discovery.resources(GROUP, VERSION))["resources"]] == ["nodes", "pods"]
    assert {row["kind"] for row in decoded(discovery.resources("", "v1"))["resources"] if row["name"] == "pods"} == {
        "Pod"
    }
