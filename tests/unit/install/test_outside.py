"""Ways to a controller outside of the cluster: which are tried, and that what leads there is what Kubernetes takes."""

from __future__ import annotations

import pytest

from headrace.errors import InvalidSpec
from headrace.install.installation import Installation
from headrace.install.node_objects import Taint, parse_taint
from headrace.install.objects import LABELS, kind_of, objects, parts
from headrace.install.outside import Way, reads_objects, ways

OUTSIDE = Installation(workloads=False, nodes=False)


def test_routed_ways_come_first_and_never_to_loopback() -> None:
    assert ways(["10.0.0.7", "127.0.0.1"], 8443) == [
        Way("10.0.0.7", 8443, by_name=False),
        Way("10.0.0.7", 8443, by_name=True),
        Way("127.0.0.1", 8443, by_name=True),
    ]


@pytest.mark.parametrize("host", ["10.0.0.7", "fd00::7"])
def test_a_routed_way_is_a_service_without_pods_and_its_one_address(host: str) -> None:
    service, endpoints, api = reads_objects("ai", Way(host, 8443, by_name=False))
    assert "selector" not in service["spec"]
    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert endpoints["addressType"] == ("IPv6" if ":" in host else "IPv4")
    assert endpoints["endpoints"][0]["addresses"] == [host]
    assert {port["name"] for port in endpoints["ports"]} == {port["name"] for port in service["spec"]["ports"]}
    assert api["spec"]["service"] == {"name": service["metadata"]["name"], "namespace": "ai", "port": 8443}


def test_a_named_way_has_no_endpoints() -> None:
    service, api = reads_objects("ai", Way("127.0.0.1", 8443, by_name=True))
    assert service["spec"]["externalName"] == "127.0.0.1"
    assert api["spec"]["service"]["port"] == 8443


def test_what_leads_outside_is_known_as_ours() -> None:
    for body in reads_objects("ai", Way("10.0.0.7", 8443, by_name=False)):
        assert kind_of(body).name == body["kind"]
        assert LABELS.items() <= body["metadata"]["labels"].items()


def test_without_processes_nothing_is_installed_that_runs_or_that_only_they_answer() -> None:
    kinds = {body["kind"] for body in objects(OUTSIDE)}
    assert not kinds & {"Deployment", "DaemonSet", "PersistentVolumeClaim", "APIService", "Service"}
    assert not {kind for kind in kinds if kind.endswith("WebhookConfiguration")}
    assert set(parts(OUTSIDE)) == {"namespaces", "definitions", "rights", "users", "policies"}


def test_what_only_processes_need_goes_not_with_none() -> None:
    with pytest.raises(InvalidSpec, match="none is installed"):
        Installation(workloads=False, database_secret="ledger").check()


@pytest.mark.parametrize(
    ("text", "taint"),
    [
        ("headrace.io/demo=:NoSchedule", Taint("headrace.io/demo", "", "NoSchedule")),
        ("dedicated:NoExecute", Taint("dedicated", "", "NoExecute")),
        ("dedicated=ml:PreferNoSchedule", Taint("dedicated", "ml", "PreferNoSchedule")),
    ],
)
def test_taints_are_written_as_kubectl_writes_them(text: str, taint: Taint) -> None:
    assert parse_taint(text) == taint


@pytest.mark.parametrize(
    "text", ["", "dedicated", "dedicated:Never", "=ml:NoSchedule", "a/b/c:NoSchedule", "a=b c:NoExecute"]
)
def test_what_is_no_taint_is_said(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is no taint"):
        parse_taint(text)
