"""kubectl applying on the server: creating, conflicts, force, managers, hidden owners, and taking over from the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]


def config_map(name: str = "c", **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def written(path: Path, *objects: Json) -> str:
    path.write_text("\n---\n".join(msgspec.yaml.encode(one).decode() for one in objects))
    return str(path)


def owners(kubectl: Any, what: str) -> dict[str, Json]:
    shown = json.loads(kubectl("get", what, "-o", "json", "--show-managed-fields").stdout)
    return {f"{e['manager']}:{e['operation']}": e["fieldsV1"] for e in shown["metadata"].get("managedFields", ())}


def apply(kubectl: Any, file: str, *more: str, fails: bool = False) -> Any:
    return kubectl("apply", "--server-side", "-f", file, *more, fails=fails)


def test_it_makes_changes_and_leaves(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    assert "configmap/c serverside-applied" in apply(kubectl, written(file, config_map(a="1", b="1"))).stdout
    before = kubectl("get", "configmap/c", "-o", "jsonpath={.metadata.resourceVersion}").stdout
    assert "serverside-applied" in apply(kubectl, str(file)).stdout
    assert kubectl("get", "configmap/c", "-o", "jsonpath={.metadata.resourceVersion}").stdout == before
    apply(kubectl, written(file, config_map(b="2")))
    assert json.loads(kubectl("get", "configmap/c", "-o", "jsonpath={.data}").stdout) == {"b": "2"}
    assert owners(kubectl, "configmap/c") == {"kubectl:Apply": {"f:data": {"f:b": {}}}}


def test_conflicts_are_told_as_kubernetes_words_them_and_can_be_forced(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    apply(kubectl, written(file, config_map(a="1", b="1")), "--field-manager=first")
    refused = apply(kubectl, written(file, config_map(a="2")), fails=True)
    assert 'error: Apply failed with 1 conflict: conflict with "first": .data.a' in refused.stderr
    assert "Please review the fields above--they currently have other managers" in refused.stderr
    refused = apply(kubectl, written(file, config_map(a="2", b="2")), fails=True)
    assert 'Apply failed with 2 conflicts: conflicts with "first":\n- .data.a\n- .data.b' in refused.stderr
    apply(kubectl, str(file), "--force-conflicts")
    assert owners(kubectl, "configmap/c") == {"kubectl:Apply": {"f:data": {"f:a": {}, "f:b": {}}}}


def test_a_dry_run_and_a_difference_show_and_change_nothing(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    done = apply(kubectl, written(file, config_map(a="1")), "--dry-run=server")
    assert "serverside-applied (server dry run)" in done.stdout
    assert "not found" in kubectl("get", "configmap/c", fails=True).stderr
    apply(kubectl, str(file))
    shown = kubectl("diff", "--server-side", "-f", written(file, config_map(a="2")), fails=True)
    assert "+  a: " in shown.stdout
    assert "-  a: " in shown.stdout


def test_owners_are_hidden_unless_they_are_asked_for(kubectl: Any, tmp_path: Path) -> None:
    apply(kubectl, written(tmp_path / "c.yaml", config_map(a="1")))
    for form in ("yaml", "json"):
        assert "managedFields" not in kubectl("get", "configmap/c", "-o", form).stdout
        assert "managedFields" in kubectl("get", "configmap/c", "-o", form, "--show-managed-fields").stdout
    assert "managedFields" not in kubectl("describe", "configmap/c").stdout


def test_every_command_owns_what_it_writes(kubectl: Any, tmp_path: Path) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    kubectl("label", "configmap/c", "l=1")
    kubectl("annotate", "configmap/c", "n=1")
    kubectl("patch", "configmap/c", "--type=merge", "-p", '{"data": {"b": "1"}}')
    found = owners(kubectl, "configmap/c")
    assert found == {
        "kubectl-create:Update": {"f:data": {".": {}, "f:a": {}}},
        "kubectl-label:Update": {"f:metadata": {"f:labels": {".": {}, "f:l": {}}}},
        "kubectl-annotate:Update": {"f:metadata": {"f:annotations": {".": {}, "f:n": {}}}},
        "kubectl-patch:Update": {"f:data": {"f:b": {}}},
    }


def test_what_was_applied_from_the_client_is_taken_over(kubectl: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    kubectl("apply", "-f", written(file, config_map(a="1", b="1")))
    assert set(owners(kubectl, "configmap/c")) == {"kubectl-client-side-apply:Update"}
    done = apply(kubectl, written(file, config_map(a="2")))
    assert done.stderr == ""
    found = owners(kubectl, "configmap/c")
    assert set(found) == {"kubectl:Apply", "kubectl-last-applied:Apply"}
    assert found["kubectl:Apply"] == {"f:data": {"f:a": {}}}
    assert json.loads(kubectl("get", "configmap/c", "-o", "jsonpath={.data}").stdout) == {"a": "2"}
    kubectl("apply", "-f", written(file, config_map(a="3")))
    assert json.loads(kubectl("get", "configmap/c", "-o", "jsonpath={.data}").stdout) == {"a": "3"}


def test_it_is_for_custom_resources_too(kubectl: Any, tmp_path: Path) -> None:
    job: Json = {
        "apiVersion": "headrace.io/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "j"},
        "spec": {"command": ["true"], "workers": 2},
    }
    file = tmp_path / "j.yaml"
    apply(kubectl, written(file, job))
    job["spec"]["workers"] = 3
    refused = apply(kubectl, written(file, job), "--field-manager=other", fails=True)
    assert 'conflict with "kubectl": .spec.workers' in refused.stderr
    job["spec"]["wrokers"] = 3
    assert ".spec.wrokers: field not declared in schema" in apply(kubectl, written(file, job), fails=True).stderr


def test_its_own_status_is_apart(kubectl: Any, tmp_path: Path) -> None:
    dataset: Json = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "d"},
        "spec": {"mounts": [{"mountPoint": "s3://b/a", "name": "a"}]},
    }
    file = tmp_path / "d.yaml"
    apply(kubectl, written(file, dataset))
    status = {key: dataset[key] for key in ("apiVersion", "kind", "metadata")} | {"status": {"phase": "Bound"}}
    apply(kubectl, written(file, status), "--subresource=status", "--field-manager=me")
    assert kubectl("get", "dataset/d", "-o", "jsonpath={.status.phase}").stdout == "Bound"
    assert owners(kubectl, "dataset/d")["me:Apply"] == {"f:status": {"f:phase": {}}}
