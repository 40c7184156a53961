"""`datasets`: listing, connecting, waiting."""

from __future__ import annotations

import json

from headrace.errors import Denied
from headrace.spec.kind import Json
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM, THIN_RUNTIME_PROFILE
from headrace.spec.names import RUNTIME_PROFILE_LABEL, WRAPPER_LABEL

from .conftest import Terminal


def dataset(name: str, *conditions: Json, phase: str = "") -> Json:
    meta = {"name": name, "namespace": "default", "labels": {WRAPPER_LABEL: "u-1"}}
    return {"metadata": meta, "status": {**({"phase": phase} if phase else {}), "conditions": list(conditions)}}


def condition(type_: str, status: str, message: str) -> Json:
    return {"type": type_, "status": status, "message": message}


def test_none(headrace: Terminal) -> None:
    cure = "Connect one: headrace datasets connect CLAIM --profile PROFILE\n"
    assert (
        headrace("datasets")
        == headrace("datasets", "list")
        == (
            0,
            f"There are no datasets in namespace default. {cure}",
            "",
        )
    )
    assert headrace("datasets", "list", "-A").out == f"There are no datasets. {cure}"
    assert json.loads(headrace("datasets", "list", "-o", "json").out)["items"] == []


def test_each_says_whether_its_mount_was_tried(headrace: Terminal) -> None:
    headrace.fake.seed(
        DATASET,
        dataset("a", condition("MountVerified", "True", "listed in cloud and own"), phase="Bound"),
        dataset("b", condition("Ready", "False", "There is no profile x.")),
        dataset("c", condition("MountVerified", "False", "cloud: permission denied"), phase="Bound"),
    )
    assert [line.split(maxsplit=4) for line in headrace("datasets", "list").lines()] == [
        ["NAMESPACE", "NAME", "PHASE", "VERIFIED", "MESSAGE"],
        ["default", "a", "Bound", "True", "listed in cloud and own"],
        ["default", "b", "NotBound", "–", "There is no profile x."],
        ["default", "c", "Bound", "False", "cloud: permission denied"],
    ]


def test_connecting_a_claim(headrace: Terminal) -> None:
    headrace.fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "digits", "namespace": "default"}})
    said = headrace("datasets", "connect", "digits", "--profile", "juicefs")
    assert said.code == 66
    assert "There is none yet; apply one, see docs/storage-profiles.md." in said.err
    headrace.fake.seed(THIN_RUNTIME_PROFILE, {"metadata": {"name": "juicefs"}}, {"metadata": {"name": "s3"}})
    said = headrace("datasets", "connect", "digits", "--profile", "jucefs")
    assert (said.code, "There are: juicefs, s3." in said.err) == (66, True)
    out = headrace("datasets", "connect", "digits", "--profile", "juicefs").out
    assert out.startswith("persistentvolumeclaim/digits connected with profile juicefs\n")
    found = json.loads(headrace("datasets", "connect", "digits", "--profile", "s3", "-o", "json").out)
    assert found["metadata"]["labels"] == {RUNTIME_PROFILE_LABEL: "s3"}


def test_who_may_not_read_profiles_may_still_connect(headrace: Terminal) -> None:
    headrace.fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "digits", "namespace": "default"}})
    headrace.fake.fail_next("get", Denied("You may not."), kind=THIN_RUNTIME_PROFILE)
    assert headrace("datasets", "connect", "digits", "--profile", "juicefs").code == 0


def test_connecting_badly(headrace: Terminal) -> None:
    headrace.fake.seed(THIN_RUNTIME_PROFILE, {"metadata": {"name": "juicefs"}})
    assert headrace("datasets", "connect", "nothing", "--profile", "juicefs").code == 66
    assert headrace("datasets", "connect", "digits").code == 2
    assert headrace("datasets", "conect").code == 2


def test_waiting_for_a_claims_data(headrace: Terminal) -> None:
    labels = {RUNTIME_PROFILE_LABEL: "juicefs"}
    meta = {"name": "digits", "namespace": "default", "uid": "u-1", "labels": labels}
    headrace.fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": meta})
    said = headrace("datasets", "wait", "digits", "--timeout", "10ms")
    assert (said.code, "got no Dataset within 0.01 s" in said.err) == (69, True)
    headrace.fake.seed(DATASET, dataset("digits", condition("MountVerified", "True", "listed in own"), phase="Bound"))
    assert headrace("datasets", "wait", "digits").out == (
        "persistentvolumeclaim/digits verified (dataset digits): listed in own\n"
    )
    assert json.loads(headrace("datasets", "wait", "digits", "-o", "json").out)["items"][0]["kind"] == "Dataset"
