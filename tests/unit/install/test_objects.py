"""What is installed, as data: one privileged part, everything else restricted, nothing that is not labelled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.errors import InvalidSpec
from headrace.install.installation import Installation
from headrace.install.names import LEDGER_CLAIM
from headrace.install.namespaces import ENFORCE
from headrace.install.objects import LABELS, kind_of, objects, ref_of
from headrace.spec.kind import Json

DEFAULT, SHARED = Installation(), Installation(database_secret="ledger")


def of_kind(kind: str, installation: Installation = DEFAULT) -> list[Json]:
    return [body for body in objects(installation) if body["kind"] == kind]


def pods(installation: Installation = DEFAULT) -> Iterator[tuple[str, Json]]:
    for kind in ("Deployment", "DaemonSet"):
        for body in of_kind(kind, installation):
            yield body["metadata"]["namespace"], body["spec"]["template"]["spec"]


@pytest.mark.parametrize("installation", [DEFAULT, SHARED, Installation(nodes=False)])
def test_each_object_is_there_once_and_is_known_as_ours(installation: Installation) -> None:
    bodies = objects(installation)
    names = [(kind_of(body).resource, ref_of(body)) for body in bodies]
    assert len(set(names)) == len(names)
    assert all(LABELS.items() <= body["metadata"]["labels"].items() for body in bodies)


def test_a_namespace_comes_before_what_is_in_it() -> None:
    there = {"kube-system"}
    for body in objects(DEFAULT):
        if body["kind"] == "Namespace":
            there.add(body["metadata"]["name"])
        assert body["metadata"].get("namespace", "kube-system") in there


def test_the_privileged_part_is_alone_in_its_namespace() -> None:
    levels = {body["metadata"]["name"]: body["metadata"]["labels"][ENFORCE] for body in of_kind("Namespace")}
    assert levels == {"headrace-system": "restricted", "headrace-nodes": "privileged"}
    privileged = {
        namespace: [c["securityContext"].get("privileged", False) for c in spec["containers"]]
        for namespace, spec in pods()
    }
    assert privileged == {"headrace-system": [False], "headrace-nodes": [True]}


def test_another_namespace_moves_everything_there() -> None:
    spaces = {body["metadata"].get("namespace") for body in objects(Installation(namespace="ai"))}
    assert spaces == {None, "kube-system", "ai", "ai-nodes"}


def test_sqlite_has_one_writer_that_ends_before_the_next_begins() -> None:
    [controller] = [each for each in of_kind("Deployment") if each["metadata"]["name"] == "headrace-controller"]
    assert (controller["spec"]["replicas"], controller["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert [claim["metadata"]["name"] for claim in of_kind("PersistentVolumeClaim")] == [LEDGER_CLAIM]


def test_a_database_lets_two_controllers_run_and_its_password_is_in_no_object() -> None:
    assert {each["spec"]["replicas"] for each in of_kind("Deployment", SHARED)} == {2}
    assert not of_kind("PersistentVolumeClaim", SHARED)
    assert len(of_kind("PodDisruptionBudget", SHARED)) == 2
    [entry] = [
        entry
        for _, spec in pods(SHARED)
        for container in spec["containers"]
        for entry in container["env"]
        if entry["name"] == "HEADRACE_LEDGER_URL"
    ]
    assert entry["valueFrom"] == {"secretKeyRef": {"name": "ledger", "key": "url"}}


def test_pods_are_led_to_an_api_server_that_no_service_leads_to() -> None:
    for _, spec in pods(Installation(api_server="[fd00::1]:6443")):
        variables = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
        assert (variables["KUBERNETES_SERVICE_HOST"], variables["KUBERNETES_SERVICE_PORT"]) == ("fd00::1", "6443")


def test_nodes_are_left_alone_where_that_is_asked() -> None:
    without = Installation(nodes=False)
    assert not of_kind("DaemonSet", without)
    assert not of_kind("CSIDriver", without)
    assert [body["metadata"]["name"] for body in of_kind("Namespace", without)] == ["headrace-system"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Installation(namespace="No"), "no name for a namespace"),
        (Installation(image=""), "no image"),
        (Installation(api_server="host"), "no HOST:PORT"),
        (Installation(database_secret="s", storage_class="fast"), "SQLite"),
    ],
)
def test_what_cannot_be_installed_is_refused(wrong: Installation, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        wrong.check()
