"""`apply get describe label annotate delete wait`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import yaml

from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.errors import InvalidSpec
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import CONFIG_MAP, DATASET, EVENT, PERSISTENT_VOLUME_CLAIM, POOL, TRAIN_JOB

from .conftest import FAILED, RUNNING, SUCCEEDED, Terminal, train_job, write_status

FILE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {x: "1"}
---
apiVersion: headrace.io/v1alpha1
kind: Pool
metadata: {name: own}
spec: {kind: own}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "objects.yaml").write_text(FILE)
    return str(tmp_path / "objects.yaml")


# -- apply -------------------------------------------------------------------------------------------------------------


def test_apply_says_what_became_of_each_object(headrace: Terminal, file: str) -> None:
    assert headrace("apply", "-f", file).lines() == ["configmap/a created", "pool/own created"]
    Path(file).write_text(FILE.replace('"1"', '"2"'))
    assert headrace("apply", "-f", file).lines() == ["configmap/a configured", "pool/own unchanged"]
    assert headrace("apply", "-n", "vision", "-f", "-", stdin=FILE).lines()[0] == "configmap/a created"
    assert len(headrace.fake._table(CONFIG_MAP).objects) == 2


def test_apply_dry_run(headrace: Terminal, file: str) -> None:
    assert headrace("apply", "--dry-run", "-f", file).lines()[0] == "configmap/a created (dry run)"
    assert headrace.fake._table(CONFIG_MAP).objects == {}


def test_apply_for_programs_can_be_applied_again(headrace: Terminal, file: str) -> None:
    out = headrace("apply", "-o", "yaml", "-f", file).out
    assert [item["kind"] for item in yaml.safe_load(out)["items"]] == ["ConfigMap", "Pool"]
    assert "unchanged" in headrace("apply", "-f", file).out


def test_apply_stops_at_the_first_refusal_and_lists_every_cause(headrace: Terminal, file: str) -> None:
    causes = (("spec.kind", "is 'x'"), ("spec.capacty", "is unknown; did you mean capacity?"))
    sentence = "Pool own is invalid: " + "; ".join(": ".join(cause) for cause in causes) + "."
    headrace.fake.fail_next("create", InvalidSpec(sentence, causes=causes), kind=POOL)
    said = headrace("apply", "-f", file)
    assert (said.code, said.out) == (65, "configmap/a created\n")
    assert said.err.splitlines() == [
        "Error: Pool own is invalid:",
        "  spec.kind: is 'x'",
        "  spec.capacty: is unknown; did you mean capacity?",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "There is no object"),
        ("a: [", "line 1"),
        ("kind: TrainJob\napiVersion: headrace.io/v1\nmetadata: {name: x}\n", "apiVersion: headrace.io/v1alpha1"),
        ("kind: TrainJbo\napiVersion: headrace.io/v1alpha1\n", "Did you mean TrainJob"),
        ("kind: ConfigMap\napiVersion: v1\n", "metadata.name is missing"),
        ("kind: TrainJob\napiVersion: headrace.io/v1alpha1\nmetadata: {generateName: x-}\n", "headrace run -f"),
    ],
)
def test_apply_of_what_is_none(headrace: Terminal, text: str, sentence: str) -> None:
    said = headrace("apply", "-f", "-", stdin=text)
    assert said.code == 65
    assert sentence in said.err


def test_apply_needs_a_file(headrace: Terminal) -> None:
    assert headrace("apply").code == 2
    assert headrace("apply", "-f", "/nowhere").code == 65


# -- get ---------------------------------------------------------------------------------------------------------------


def table(*rows: tuple[str, str]) -> Json:
    columns = [{"name": "Name", "priority": 0}, {"name": "Node", "priority": 1}, {"name": "Age", "priority": 0}]
    return {
        "kind": "Table",
        "columnDefinitions": columns,
        "rows": [
            {"cells": [name, "n1", None], "object": {"metadata": {"name": name, "namespace": namespace}}}
            for namespace, name in rows
        ],
    }


def test_get_prints_the_servers_own_table(headrace: Terminal) -> None:
    headrace.fake.script_request("GET", "/api/v1/namespaces/default/pods", table(("default", "a"), ("default", "bb")))
    headrace.fake.script_request("GET", "/api/v1/pods", table(("vision", "a")))
    headrace.fake.script_request("GET", "/apis/headrace.io/v1alpha1/pools", table())
    assert headrace("get", "po").lines() == ["NAME   AGE", "a", "bb"]
    assert headrace("get", "pods", "-A").lines() == ["NAMESPACE   NAME   AGE", "vision      a"]
    assert headrace("get", "pods,pools").lines()[-2:] == ["", "There are no pools."]


def test_get_from_a_server_without_tables(headrace: Terminal) -> None:
    item = {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    headrace.fake.script_request("GET", "/api/v1/namespaces/default/pods", {"kind": "PodList", "items": [item]})
    headrace.fake.script_request("GET", "/api/v1/namespaces/default/pods/a", {"kind": "Pod", **item})
    assert headrace("get", "pods").lines()[0].split() == ["NAME", "AGE"]
    assert headrace("get", "pod", "a").lines()[1].startswith("a ")


def test_get_one_is_an_object_and_several_are_a_list(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job("a"), train_job("b"))
    headrace.fake.seed(POOL, {"metadata": {"name": "own"}})
    assert json.loads(headrace("get", "tj", "a", "-o", "json").out)["kind"] == "TrainJob"
    assert json.loads(headrace("get", "tj/a", "-o", "json").out)["metadata"]["name"] == "a"
    for words in (["tj", "a", "b"], ["tj/a", "tj/b"], ["tj"]):
        listed = json.loads(headrace("get", *words, "-o", "json").out)
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    listed = yaml.safe_load(headrace("get", "tj,pools", "-o", "yaml").out)
    assert [item["kind"] for item in listed["items"]] == ["TrainJob", "TrainJob", "Pool"]
    assert json.loads(headrace("get", "tj", "-n", "vision", "-o", "json").out)["items"] == []


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["foo"], 65, "is not a kind"),
        (["trainjbos"], 65, "Did you mean trainjobs"),
        (["tj,pools", "a"], 65, "several kinds"),
        (["tj", "a/b"], 65, "'a/b' is no name"),
        (["tj/a", "b"], 65, "'b' is not KIND/NAME"),
        (["tj/"], 65, "is not KIND/NAME"),
        ([","], 65, "KIND/NAME"),
        (["tj", "a", "-A"], 65, "neither -A nor -l"),
        (["tj", "a", "-o", "json"], 66, "a"),
    ],
)
def test_get_bad_words(headrace: Terminal, words: Sequence[str], code: int, sentence: str) -> None:
    said = headrace("get", *words)
    assert said.code == code
    assert sentence in said.err


# -- describe ----------------------------------------------------------------------------------------------------------


def test_describe_shows_the_object_its_conditions_and_its_events(headrace: Terminal) -> None:
    condition = {"type": "MountVerified", "status": "False", "reason": "MountFailed", "message": "no such bucket"}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    meta = {"name": "d", "namespace": "default", "uid": "u-1", "managedFields": [{}], "annotations": annotations}
    headrace.fake.seed(
        DATASET, {"metadata": meta, "spec": {"mounts": []}, "status": {"phase": "Bound", "conditions": [condition]}}
    )
    about = {"involvedObject": {"uid": "u-1"}, "type": "Warning"}
    headrace.fake.seed(
        EVENT,
        {"metadata": {"name": "2", "namespace": "default"}, "lastTimestamp": "2026-01-02T00:00:00Z", "reason": "Second", "message": "b", "count": 3, **about},
        {"metadata": {"name": "1", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "First", "message": "a", **about},
        {"metadata": {"name": "3", "namespace": "default"}, "involvedObject": {"uid": "other"}, "message": "not mine"},
    )  # fmt: skip
    out = headrace("describe", "dataset", "d").out
    shown = yaml.safe_load(out.partition("\nConditions")[0])
    assert shown["status"] == {"phase": "Bound"}
    assert not {"managedFields", "annotations"} & set(shown["metadata"])
    assert "MountVerified   False    MountFailed   no such bucket" in out
    assert out.index("First") < out.index("Second")
    assert "×3" in out
    assert "not mine" not in out
    both = json.loads(headrace("describe", "dataset/d", "-o", "json").out)
    assert (both["object"]["metadata"]["uid"], len(both["events"])) == ("u-1", 2)


@pytest.mark.parametrize(("words", "code"), [(["dataset"], 65), (["dataset", "d"], 66), (["datasett", "d"], 65)])
def test_describe_bad_words(headrace: Terminal, words: Sequence[str], code: int) -> None:
    assert headrace("describe", *words).code == code


# -- label, annotate ---------------------------------------------------------------------------------------------------


def test_labels_and_annotations(headrace: Terminal) -> None:
    meta = {"namespace": "default", "labels": {"old": "1"}}
    for name in ("a", "b"):
        headrace.fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": name, **meta}})
    out = headrace("label", "pvc", "a", "fluid.io/runtime-profile=juicefs", "old-").out
    assert out == "persistentvolumeclaim/a labelled\n"
    assert headrace("label", "pvc/a", "pvc/b", "x=").lines()[1] == "persistentvolumeclaim/b labelled"
    found = json.loads(headrace("annotate", "pvc", "a", "headrace.io/pools=own,cloud", "-o", "json").out)
    assert found["metadata"]["labels"] == {"fluid.io/runtime-profile": "juicefs", "x": ""}
    assert found["metadata"]["annotations"] == {"headrace.io/pools": "own,cloud"}


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["pvc", "a"], 65, "nothing to set"),
        (["pvc", "a", "b"], 65, "nothing to set"),
        (["pvc", "a", "=x"], 65, "neither KEY=VALUE nor KEY-"),
        (["pvc", "x=y"], 65, "A name is missing"),
        (["pvc", "a", "x=y", "z"], 65, "'z' is neither"),
        (["pvc", "a", "x=y"], 66, "a"),
    ],
)
@pytest.mark.parametrize("command", ["label", "annotate"])
def test_labels_bad_words(headrace: Terminal, command: str, words: Sequence[str], code: int, sentence: str) -> None:
    said = headrace(command, *words)
    assert said.code == code
    assert sentence in said.err


# -- delete ------------------------------------------------------------------------------------------------------------


def test_delete_by_name_and_by_file_in_the_opposite_order(headrace: Terminal, file: str) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job("a"), train_job("b"))
    assert headrace("delete", "tj", "a", "b").lines() == ["trainjob/a deleted", "trainjob/b deleted"]
    headrace("apply", "-f", file)
    assert headrace("delete", "-f", file).lines() == ["pool/own deleted", "configmap/a deleted"]
    said = headrace("delete", "-f", file)
    assert (said.code, said.out) == (66, "")
    assert headrace("delete", "-f", file, "--ignore-not-found") == (0, "", "")
    assert headrace("delete", "-f", file, "--ignore-not-found", "-o", "json").out == "[]\n"


def test_delete_without_waiting(headrace: Terminal) -> None:
    kept = {"metadata": {"name": "a", "namespace": "default", "finalizers": ["x/y"]}}
    headrace.fake.seed(CONFIG_MAP, kept)
    assert headrace("delete", "cm", "a", "--no-wait").out == "configmap/a is being deleted\n"
    said = headrace("delete", "cm", "a", "--timeout", "0.01s")
    assert said.code == 69
    assert "did not get there within 0.01 s" in said.err


@pytest.mark.parametrize("words", [[], ["tj"], ["tj", "a", "-f", "x"]])
def test_delete_bad_words(headrace: Terminal, words: Sequence[str]) -> None:
    assert headrace("delete", *words).code == 65


# -- wait --------------------------------------------------------------------------------------------------------------


def test_wait_for_a_phase_a_condition_and_an_end(headrace: Terminal) -> None:
    async def life(fake: FakeCluster) -> None:
        fake.seed(TRAIN_JOB, train_job())
        await write_status(fake, RUNNING)

    headrace.life = life
    assert (
        headrace("wait", "tj/digits", "--for", "phase=running,succeeded").out == "trainjob/digits running,succeeded\n"
    )
    headrace.life = None
    complete = {"type": "Complete", "status": "True"}
    headrace.fake.seed(TRAIN_JOB, train_job(**{**SUCCEEDED, "conditions": [complete]}))
    assert headrace("wait", "tj", "digits", "--for", "condition=Complete").out == "trainjob/digits Complete\n"
    assert json.loads(headrace("wait", "tj/digits", "--for", "condition=complete=true", "-o", "json").out)["kind"]
    headrace("delete", "tj", "digits")
    assert headrace("wait", "tj/digits", "--for", "delete").out == "trainjob/digits deleted\n"


def test_wait_does_not_take_a_condition_of_the_spec_before(headrace: Terminal) -> None:
    condition = {"type": "MountVerified", "status": "True", "observedGeneration": 1}
    meta = {"name": "d", "namespace": "default", "generation": 2}
    headrace.fake.seed(DATASET, {"metadata": meta, "status": {"conditions": [condition]}})
    assert headrace("wait", "dataset/d", "--for", "condition=MountVerified", "--timeout", "10ms").code == 69

    async def life(fake: FakeCluster) -> None:
        await anyio.lowlevel.checkpoint()
        body = {"status": {"conditions": [{**condition, "observedGeneration": 2}]}}
        await fake.patch(DATASET, Ref("default", "d"), MergePatch(body), subresource="status")

    headrace.life = life
    assert headrace("wait", "dataset/d", "--for", "condition=MountVerified").code == 0


def test_wait_for_what_a_failed_job_will_never_be(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**FAILED))
    said = headrace("wait", "tj/digits", "--for", "phase=Succeeded")
    assert said.code == 73
    assert "has ended as Failed and will not get there" in said.err
    assert "headrace show digits" in said.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["tj/x", "--for", "phase"], 65),
        (["tj/x", "--for", "ready"], 65),
        (["tj", "--for", "delete"], 65),
        (["tj/x"], 2),
        (["tj/x", "--for", "delete", "--timeout", "soon"], 2),
        (["tj/x", "--for", "phase=Running", "--timeout", "10ms"], 69),
    ],
)
def test_wait_bad_words(headrace: Terminal, words: Sequence[str], code: int) -> None:
    assert headrace("wait", *words).code == code
