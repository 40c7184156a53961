"""kubectl 1.37 changing objects: create, apply in all its turns, label, annotate, patch, edit, delete."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": ["sleep", "1"], "env": [{"name": "A", "value": "1"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "restartPolicy": "Never", "schedulerName": "nobody", **spec},
    }


def written(path: Path, *objects: dict[str, Any]) -> str:
    path.write_text("\n---\n".join(msgspec.yaml.encode(one).decode() for one in objects))
    return str(path)


def read(kubectl: Any, *what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", *what, "-o", "json").stdout)
    return found


def test_apply_creates_leaves_changes_and_prunes(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    assert "configmap/c created" in kubectl("apply", "-f", written(file, config_map("c", a="1", b="2"))).stdout
    before = read(kubectl, "configmap/c")
    assert "configmap/c unchanged" in kubectl("apply", "-f", str(file)).stdout
    assert read(kubectl, "configmap/c")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    kubectl("patch", "configmap/c", "--type", "merge", "-p", '{"data": {"other": "kept"}}')
    assert "configmap/c configured" in kubectl("apply", "-f", written(file, config_map("c", a="3"))).stdout
    assert read(kubectl, "configmap/c")["data"] == {"a": "3", "other": "kept"}


def test_apply_of_a_core_kind_is_a_strategic_three_way_merge(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"selector": {"app": "x"}, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
    }
    kubectl("apply", "-f", written(file, service))
    kubectl("patch", "service/s", "-p", '{"spec": {"ports": [{"name": "c", "port": 82}]}}')
    service["spec"]["ports"] = [{"name": "a", "port": 80, "targetPort": 8080}]  # type: ignore[index]
    done = kubectl("apply", "-f", written(file, service))
    assert "configured" in done.stdout
    assert done.stderr == ""
    ports = {port["name"]: port.get("targetPort") for port in read(kubectl, "service/s")["spec"]["ports"]}
    assert set(ports) == {"a", "c"}
    assert ports["a"] == 8080


def test_apply_of_a_custom_resource(kubectl: Any, tmp_path: Path) -> None:
    job: dict[str, Any] = {
        "apiVersion": "headrace.io/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "j"},
        "spec": {"command": ["true"], "workers": 2},
    }
    file = tmp_path / "j.yaml"
    kubectl("apply", "-f", written(file, job))
    job["metadata"]["labels"] = {"a": "b"}
    assert "configured" in kubectl("apply", "-f", written(file, job)).stdout
    assert "unchanged" in kubectl("apply", "-f", str(file)).stdout
    assert read(kubectl, "trainjob/j")["metadata"]["labels"] == {"a": "b"}


def test_a_misspelt_field_is_refused_by_name(kubectl: Any, tmp_path: Path) -> None:
    wrong = pod("p", restartPolcy="Never")
    done = kubectl("apply", "-f", written(tmp_path / "p.yaml", wrong), fails=True)
    assert 'unknown field "spec.restartPolcy"' in done.stderr
    warned = kubectl("apply", "--validate=warn", "-f", str(tmp_path / "p.yaml"))
    assert 'unknown field "spec.restartPolcy"' in warned.stderr
    ignored = kubectl("apply", "--validate=ignore", "-f", str(tmp_path / "p.yaml"))
    assert "restartPolcy" not in ignored.stderr


def test_a_wrong_type_is_refused_by_path(kubectl: Any, tmp_path: Path) -> None:
    done = kubectl("apply", "-f", written(tmp_path / "p.yaml", pod("p", priority="high")), fails=True)
    assert "spec.priority" in done.stderr


def test_dry_run_on_the_server_changes_nothing(kubectl: Any, tmp_path: Path) -> None:
    file = written(tmp_path / "p.yaml", pod("p"))
    done = kubectl("create", "--dry-run=server", "-f", file, "-o", "json")
    made = json.loads(done.stdout)
    assert made["metadata"]["uid"]
    assert made["spec"]["containers"][0]["terminationMessagePath"] == "/dev/termination-log"
    assert "not found" in kubectl("get", "pod/p", fails=True).stderr
    kubectl("create", "-f", file)
    assert "(server dry run)" in kubectl("apply", "--dry-run=server", "-f", file).stdout
    assert "(server dry run)" in kubectl("delete", "--dry-run=server", "pod/p").stdout
    kubectl("get", "pod/p")
    assert "already exists" in kubectl("create", "-f", file, fails=True).stderr


def test_create_from_arguments(kubectl: Any) -> None:
    kubectl("create", "secret", "generic", "s", "--from-literal=key=value")
    assert read(kubectl, "secret/s")["data"] == {"key": "dmFsdWU="}
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "robot")
    kubectl("run", "one", "--image=host", "--restart=Never", "--", "true")
    assert read(kubectl, "pod/one")["spec"]["containers"][0]["args"] == ["true"]


def test_a_service_accounts_token(kubectl: Any, namespace: str) -> None:
    kubectl("create", "serviceaccount", "robot")
    token = kubectl("create", "token", "robot", "--duration", "10m").stdout.strip()
    assert f"system:serviceaccount:{namespace}:robot" in kubectl("auth", "whoami", "--token", token).stdout


def test_label_and_annotate(kubectl: Any, tmp_path: Path) -> None:
    kubectl("create", "configmap", "c")
    assert "labeled" in kubectl("label", "configmap/c", "fluid.io/runtime-profile=juicefs").stdout
    assert "--overwrite" in kubectl("label", "configmap/c", "fluid.io/runtime-profile=other", fails=True).stderr
    kubectl("label", "configmap/c", "fluid.io/runtime-profile=other", "--overwrite")
    kubectl("annotate", "configmap/c", "why=because")
    metadata = read(kubectl, "configmap/c")["metadata"]
    assert metadata["labels"] == {"fluid.io/runtime-profile": "other"}
    assert metadata["annotations"] == {"why": "because"}
    kubectl("label", "configmap/c", "fluid.io/runtime-profile-")
    assert not read(kubectl, "configmap/c")["metadata"].get("labels")
    refused = kubectl("label", "configmap/c", "a=not a label", fails=True)
    assert "a" in refused.stderr


def test_the_three_kinds_of_patch(kubectl: Any, tmp_path: Path) -> None:
    kubectl("create", "-f", written(tmp_path / "p.yaml", pod("p")))
    strategic = '{"spec": {"containers": [{"name": "main", "image": "other"}]}}'
    assert "patched" in kubectl("patch", "pod/p", "-p", strategic).stdout
    assert read(kubectl, "pod/p")["spec"]["containers"][0]["command"] == ["sleep", "1"]
    assert "no change" in kubectl("patch", "pod/p", "-p", strategic).stdout
    kubectl("patch", "pod/p", "--type=merge", "-p", '{"metadata": {"labels": {"app": null, "b": "c"}}}')
    assert read(kubectl, "pod/p")["metadata"]["labels"] == {"b": "c"}
    kubectl("patch", "pod/p", "--type=json", "-p", '[{"op": "replace", "path": "/metadata/labels/b", "value": "d"}]')
    assert read(kubectl, "pod/p")["metadata"]["labels"] == {"b": "d"}
    failed = '[{"op": "test", "path": "/metadata/labels/b", "value": "x"}]'
    kubectl("patch", "pod/p", "--type=json", "-p", failed, fails=True)
    status = '{"status": {"phase": "Running"}}'
    kubectl("patch", "pod/p", "--subresource=status", "--type=merge", "-p", status)
    assert read(kubectl, "pod/p")["status"]["phase"] == "Running"


def test_a_custom_resource_is_not_patched_strategically(kubectl: Any, tmp_path: Path) -> None:
    job = {
        "apiVersion": "headrace.io/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "j"},
        "spec": {"command": ["true"]},
    }
    kubectl("create", "-f", written(tmp_path / "j.yaml", job))
    refused = kubectl("patch", "trainjob/j", "--type=strategic", "-p", '{"spec": {"workers": 2}}', fails=True)
    assert "UnsupportedMediaType" in refused.stderr or "strategic" in refused.stderr


def test_replace(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    kubectl("create", "-f", written(file, config_map("c", a="1")))
    kubectl("replace", "-f", written(file, config_map("c", b="2")))
    assert read(kubectl, "configmap/c")["data"] == {"b": "2"}
    stale = config_map("c", c="3")
    stale["metadata"]["resourceVersion"] = "1"
    assert "the object has been modified" in kubectl("replace", "-f", written(file, stale), fails=True).stderr


def test_edit(kubectl: Any, tmp_path: Path) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=before")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/before/after/" "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl("edit", "configmap/c", EDITOR=str(editor)).stdout
    assert read(kubectl, "configmap/c")["data"] == {"a": "after"}
    assert "no changes made" in kubectl("edit", "configmap/c", EDITOR=str(editor)).stderr


def test_delete_waits_until_finalizers_are_gone(
    kubectl: Any, kubectl_command: Any, facade: Any, namespace: str, tmp_path: Path
) -> None:
    held = config_map("c")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    kubectl("create", "-f", written(tmp_path / "c.yaml", held))
    path = f"/api/v1/namespaces/{namespace}/configmaps/c"
    assert "timed out" in kubectl("delete", "configmap/c", "--timeout=1s", fails=True).stderr
    assert read(kubectl, "configmap/c")["metadata"]["deletionTimestamp"]
    command, environment = kubectl_command
    waiting = [*command, "delete", "configmap/c", "--wait=true"]
    with subprocess.Popen(waiting, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "deleted" in process.stdout.readline()  # is said when it is asked for
        assert process.poll() is None
        facade.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
        assert process.wait(20) == 0
    assert "not found" in kubectl("get", "configmap/c", fails=True).stderr


MERGE = "application/merge-patch+json"


def test_delete_many_and_wait(kubectl: Any, tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(3)]
    objects = [config_map(name) | {"metadata": {"name": name, "labels": {"set": "x"}}} for name in names]
    file = written(tmp_path / "c.yaml", *objects)
    kubectl("create", "-f", file)
    assert kubectl("delete", "configmaps", "-l", "set=x").stdout.count("deleted") == 3
    kubectl("create", "-f", file)
    assert kubectl("delete", "-f", file).stdout.count("deleted") == 3
    assert kubectl("delete", "-f", file, "--ignore-not-found").stdout == ""
    assert "not found" in kubectl("delete", "configmap", "c0", fails=True).stderr


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_delete_says_how_dependants_go(kubectl: Any, facade: Any, namespace: str, cascade: str) -> None:
    kubectl("create", "configmap", "c")
    kubectl("delete", "configmap/c", f"--cascade={cascade}", "--wait=false")
    names = [
        item["metadata"]["name"] for item in facade.call("GET", f"/api/v1/namespaces/{namespace}/configmaps")["items"]
    ]
    if cascade == "background":
        assert "c" not in names


def test_wait_for_a_condition(kubectl: Any, facade: Any, namespace: str, tmp_path: Path) -> None:
    kubectl("create", "-f", written(tmp_path / "p.yaml", pod("p")))
    path = f"/api/v1/namespaces/{namespace}/pods/p/status"
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    timer = threading.Timer(0.5, facade.call, ("PATCH", path, ready, MERGE))
    timer.start()
    try:
        assert "condition met" in kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s").stdout
    finally:
        timer.join()


def test_diff(kubectl: Any, kubectl_command: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    kubectl("apply", "-f", written(file, config_map("c", a="1")))
    written(file, config_map("c", a="2"))
    command, environment = kubectl_command
    done = subprocess.run(
        [*command, "diff", "-f", str(file)], env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1, done.stderr
    assert '+  a: "2"' in done.stdout
