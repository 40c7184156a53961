"""kubectl 1.37 reading: tables, formats, selectors, watches, describe, explain, discovery."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

MERGE = "application/merge-patch+json"
RUNNING = {
    "status": {
        "phase": "Running",
        "podIP": "127.64.0.1",
        "podIPs": [{"ip": "127.64.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "main",
                "ready": True,
                "restartCount": 0,
                "image": "host",
                "imageID": "host",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
        ],
    }
}


def make_pod(facade: Any, namespace: str, name: str, *, node: str = "", **labels: str) -> None:
    spec = {"containers": [{"name": "main", "image": "host"}], "schedulerName": "nobody", "nodeName": node}
    body = {"metadata": {"name": name, "labels": labels}, "spec": spec}
    facade.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)


def start_pod(facade: Any, namespace: str, name: str) -> None:
    facade.call("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}/status", RUNNING, MERGE)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_prints_kubectls_own_columns(kubectl: Any, facade: Any, namespace: str) -> None:
    make_pod(facade, namespace, "a", node="own")
    start_pod(facade, namespace, "a")
    header, row = rows(kubectl("get", "pods").stdout)
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["a", "1/1", "Running", "0"]
    header, row = rows(kubectl("get", "pods", "-o", "wide").stdout)
    assert header[5:] == ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert row[5:7] == ["127.64.0.1", "own"]


def test_get_in_other_formats(kubectl: Any, facade: Any, namespace: str) -> None:
    make_pod(facade, namespace, "a")
    assert json.loads(kubectl("get", "pod", "a", "-o", "json").stdout)["kind"] == "Pod"
    assert "kind: Pod" in kubectl("get", "pod/a", "-o", "yaml").stdout
    assert json.loads(kubectl("get", "pods", "-o", "json").stdout)["items"][0]["metadata"]["name"] == "a"
    assert kubectl("get", "po", "-o", "name").stdout == "pod/a\n"
    assert kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.name}").stdout == "a"
    assert kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name").stdout == "N\na\n"
    assert "LABELS" in kubectl("get", "pods", "--show-labels").stdout


def test_selectors(kubectl: Any, facade: Any, namespace: str) -> None:
    make_pod(facade, namespace, "a", node="own", app="x", tier="front")
    make_pod(facade, namespace, "b", app="y")
    make_pod(facade, namespace, "c", app="z")
    start_pod(facade, namespace, "a")

    def names(*arguments: str) -> list[str]:
        printed: str = kubectl("get", "pods", "-o", "name", *arguments).stdout
        return printed.split()

    assert names("-l", "app=x") == ["pod/a"]
    assert names("-l", "app!=x") == ["pod/b", "pod/c"]
    assert names("-l", "app in (x,y)") == ["pod/a", "pod/b"]
    assert names("-l", "app notin (x,y)") == ["pod/c"]
    assert names("-l", "tier") == ["pod/a"]
    assert names("-l", "!tier") == ["pod/b", "pod/c"]
    assert names("--field-selector", "metadata.name=b") == ["pod/b"]
    assert names("--field-selector", "spec.nodeName=own") == ["pod/a"]
    assert names("--field-selector", "status.phase=Running") == ["pod/a"]
    assert names("--field-selector", "status.phase!=Running") == ["pod/b", "pod/c"]
    assert "field" in kubectl("get", "pods", "--field-selector", "spec.nonsense=1", fails=True).stderr


def test_many_objects_come_in_chunks(kubectl: Any, facade: Any, namespace: str) -> None:
    for index in range(7):
        facade.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": f"c{index}"}})
    found = kubectl("get", "configmaps", "--chunk-size=2", "-o", "name").stdout.split()
    assert {f"configmap/c{index}" for index in range(7)} <= set(found)
    assert len(rows(kubectl("get", "configmaps", "--chunk-size=3").stdout)) >= 8


def test_sorting_and_several_kinds(kubectl: Any, facade: Any, namespace: str) -> None:
    make_pod(facade, namespace, "b")
    make_pod(facade, namespace, "a")
    sorted_names = kubectl("get", "pods", "--sort-by=.metadata.name", "-o", "name").stdout.split()
    assert sorted_names == ["pod/a", "pod/b"]
    assert rows(kubectl("get", "pods", "--sort-by=.metadata.name").stdout)[1][0] == "a"
    both = kubectl("get", "pods,namespaces").stdout
    assert "pod/a" in both
    assert f"namespace/{namespace}" in both
    assert "pod/a" in kubectl("get", "all").stdout


def test_nothing_there(kubectl: Any, namespace: str) -> None:
    assert f"No resources found in {namespace} namespace." in kubectl("get", "pods").stderr
    assert 'pods "nobody" not found' in kubectl("get", "pod", "nobody", fails=True).stderr
    assert "the server doesn't have a resource type" in kubectl("get", "nonsense", fails=True).stderr


@contextmanager
def watching(command: Any, *arguments: str) -> Iterator[Any]:
    """Run kubectl in the background; yields a function that returns its next line."""
    words, environment = command
    with subprocess.Popen([*words, *arguments], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline
        finally:
            process.kill()


def test_watch_prints_changes_as_they_come(kubectl_command: Any, facade: Any, namespace: str) -> None:
    make_pod(facade, namespace, "a")
    with watching(kubectl_command, "get", "pods", "-w") as line:
        assert line().split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert line().split()[:3] == ["a", "0/1", "Pending"]
        start_pod(facade, namespace, "a")
        assert line().split()[:3] == ["a", "1/1", "Running"]
        make_pod(facade, namespace, "b")
        assert line().split()[:3] == ["b", "0/1", "Pending"]


def test_watch_with_events_and_selector(kubectl_command: Any, facade: Any, namespace: str) -> None:
    arguments = ("get", "configmaps", "-l", "keep=yes", "--watch", "--output-watch-events")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    facade.call("POST", path, {"metadata": {"name": "a", "labels": {"keep": "yes"}}})
    with watching(kubectl_command, *arguments) as line:
        assert line().split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert line().split()[:2] == ["ADDED", "a"]
        facade.call("POST", path, {"metadata": {"name": "b"}})
        facade.call("PATCH", f"{path}/b", {"metadata": {"labels": {"keep": "yes"}}}, MERGE)
        assert line().split()[:2] == ["ADDED", "b"]
        facade.call("PATCH", f"{path}/a", {"metadata": {"labels": {"keep": "no"}}}, MERGE)
        assert line().split()[:2] == ["DELETED", "a"]


def test_describe(kubectl: Any, facade: Any, namespace: str) -> None:
    make_pod(facade, namespace, "a", node="own")
    start_pod(facade, namespace, "a")
    pod = facade.call("GET", f"/api/v1/namespaces/{namespace}/pods/a")
    event = {
        "metadata": {"name": "a.1"},
        "involvedObject": {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": "a",
            "namespace": namespace,
            "uid": pod["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "source": {"component": "kubelet"},
    }
    facade.call("POST", f"/api/v1/namespaces/{namespace}/events", event)
    text = kubectl("describe", "pod", "a").stdout
    assert "Status:           Running" in text or "Status:" in text
    assert "Back-off restarting failed container" in text
    assert namespace in kubectl("describe", "namespace", namespace).stdout
    assert "Back-off" in kubectl("get", "events").stdout
    assert "Back-off" in kubectl("events", "--for", "pod/a").stdout


def test_describe_of_a_custom_resource(kubectl: Any, facade: Any, namespace: str) -> None:
    job = {"metadata": {"name": "j"}, "spec": {"command": ["true"]}}
    job |= {"apiVersion": "headrace.io/v1alpha1", "kind": "TrainJob"}
    facade.call("POST", f"/apis/headrace.io/v1alpha1/namespaces/{namespace}/trainjobs", job)
    text = kubectl("describe", "trainjob", "j").stdout
    assert "Kind:         TrainJob" in text
    assert "Command:" in text
    header, row = rows(kubectl("get", "tj").stdout)
    assert header[0] == "NAME"
    assert "PHASE" in header
    assert row[0] == "j"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("pods", "PodSpec"),
        ("pod.spec.containers.env", "Name of the environment variable"),
        ("persistentvolumeclaims.spec.resources", "requests"),
        ("trainjobs", "TrainJob"),
        ("trainjob.spec.command", "command"),
        ("datasets.spec.mounts", "mountPoint"),
        ("crd.spec.names", "shortNames"),
        ("csidrivers", "CSIDriver"),
    ],
)
def test_explain(kubectl: Any, what: str, expected: str) -> None:
    assert expected in kubectl("explain", what).stdout


def test_explain_recursively(kubectl: Any) -> None:
    assert "terminationGracePeriodSeconds" in kubectl("explain", "pod", "--recursive").stdout
    assert "does not exist" in kubectl("explain", "pod.spec.nonsense", fails=True).stderr


def test_discovery(kubectl: Any) -> None:
    resources = rows(kubectl("api-resources").stdout)
    by_name = {row[0]: row for row in resources[1:]}
    assert ["pods", "po", "v1", "true", "Pod"] in resources  # metrics.k8s.io has pods too
    assert by_name["trainjobs"][-1] == "TrainJob"
    assert by_name["thinruntimeprofiles"][-2:] == ["false", "ThinRuntimeProfile"]
    versions = kubectl("api-versions").stdout.split()
    assert {"v1", "storage.k8s.io/v1", "headrace.io/v1alpha1", "data.fluid.io/v1alpha1"} <= set(versions)
    assert kubectl("api-resources", "--categories=fluid", "-o", "name").stdout.startswith("alluxioruntimes")


def test_version_and_cluster(kubectl: Any, facade: Any) -> None:
    version = json.loads(kubectl("version", "-o", "json").stdout)
    assert version["serverVersion"]["gitVersion"].startswith("v1.")
    assert facade.url in kubectl("cluster-info").stdout
    assert kubectl("get", "--raw", "/readyz").stdout == "ok"


def test_who_am_i_and_what_may_i(kubectl: Any) -> None:
    assert "admin" in kubectl("auth", "whoami").stdout
    assert kubectl("auth", "can-i", "delete", "pods").stdout == "yes\n"
    assert kubectl("auth", "can-i", "get", "pods", "--as", "nobody", fails=True).stdout.startswith("no")
    assert "*.*" in kubectl("auth", "can-i", "--list").stdout
    assert "cannot list resource" in kubectl("get", "pods", "--as", "nobody", fails=True).stderr


def test_a_wrong_token_is_told_so(kubectl: Any) -> None:
    assert "You must be logged in" in kubectl("get", "pods", "--token=wrong", fails=True).stderr
