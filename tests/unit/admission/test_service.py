"""The webhooks as an HTTP application: chains in order, refusals as answers, faults as faults."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from headrace.admission.authorship import Authorship
from headrace.admission.review import Admitter, Review
from headrace.admission.service import MAX_BYTES, Unchanged, Webhooks
from headrace.admission.shape import Normaliser, Validator
from headrace.errors import Denied
from headrace.spec.kind import Json

PROFILES = {"group": "data.fluid.io", "version": "v1alpha1", "resource": "thinruntimeprofiles"}
JOBS = {"group": "headrace.io", "version": "v1alpha1", "resource": "trainjobs"}


class Labels:
    """Adds a label, after looking whether another one is there."""

    def __init__(self, name: str, after: str = "") -> None:
        self._name = name
        self._after = after

    async def admit(self, request: Review) -> Json | None:
        body = request.object
        assert body is not None
        labels = (body.get("metadata") or {}).get("labels") or {}
        assert not self._after or self._after in labels
        request.warnings.append(f"labelled {self._name}")
        return {**body, "metadata": {**body["metadata"], "labels": {**labels, self._name: ""}}}


class Refuses:
    async def admit(self, request: Review) -> Json | None:
        raise Denied(f"Nobody may {request.operation}.", hint="Ask.")


class Breaks:
    async def admit(self, request: Review) -> Json | None:
        raise ZeroDivisionError


def ask(
    mutating: Sequence[Admitter] = (), validating: Sequence[Admitter] = (), path: str = "/mutate", **asked: Any
) -> Json:
    request = {
        "uid": "u",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "vision",
        "name": "p",
        "userInfo": {"username": "ann"},
        "object": {"metadata": {"name": "p"}},
        **asked,
    }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    answer = TestClient(Webhooks(mutating, validating)).post(path, json=body)
    assert answer.status_code == 200, answer.text
    response: Json = answer.json()["response"]
    return response


def patch(response: Json) -> Any:
    return msgspec.json.decode(base64.b64decode(response["patch"]))


def test_admitters_see_what_those_before_them_did_and_one_patch_holds_all() -> None:
    response = ask([Labels("a"), Labels("b", after="a")])
    assert patch(response) == [{"op": "add", "path": "/metadata/labels", "value": {"a": "", "b": ""}}]
    assert response["warnings"] == ["labelled a", "labelled b"]


def test_the_two_webhooks_have_chains_of_their_own() -> None:
    assert "patch" not in ask([Labels("a")], [], path="/validate")


def test_a_refusal_ends_the_chain() -> None:
    response = ask([Labels("a"), Refuses(), Breaks()])
    assert response["allowed"] is False
    assert response["status"]["message"] == "Nobody may CREATE. Ask."
    assert response["warnings"] == ["labelled a"]
    assert "patch" not in response


def test_a_fault_of_ours_is_no_answer_so_that_the_failure_policy_decides() -> None:
    client = TestClient(Webhooks([Breaks()], []), raise_server_exceptions=False)
    request = {"uid": "u", "resource": {"group": "", "version": "v1", "resource": "pods"}, "operation": "CREATE"}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    assert client.post("/mutate", json=body).status_code == 500


def test_what_is_no_review_is_said_so() -> None:
    client = TestClient(Webhooks([], []))
    assert client.post("/mutate", content=b"{").status_code == 400
    assert "8 MiB" in client.post("/mutate", content=b"x" * (MAX_BYTES + 1)).text
    assert client.get("/mutate").status_code == 405
    assert client.post("/elsewhere", json={}).status_code == 404


def test_answers_are_counted() -> None:
    webhooks = Webhooks([Labels("a")], [Refuses()])
    client = TestClient(webhooks)
    request = {
        "uid": "u",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "object": {"metadata": {}},
    }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    for path in ("/mutate", "/mutate", "/validate"):
        client.post(path, json=body)
    client.post("/validate", content=b"")
    assert webhooks.answers == {("/mutate", "patched"): 2, ("/validate", "refused"): 1, ("/validate", "malformed"): 1}


# -- what a server of our own does itself ----------------------------------------------------------------------------------


def test_spellings_are_normalised_and_defaults_filled_in_with_warnings() -> None:
    body = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "ThinRuntimeProfile",
        "metadata": {"name": "p"},
        "spec": {"fileType": "starfs", "fuse": {"command": ["x"]}, "image": "i"},
    }
    response = ask([Normaliser()], resource=PROFILES, namespace="", object=body)
    changes = {(entry["op"], entry["path"]): entry.get("value") for entry in patch(response)}
    assert changes["add", "/spec/fileSystemType"] == "starfs"
    assert changes["add", "/spec/fuse/image"] == "i"
    assert ("remove", "/spec/fileType") in changes
    assert len(response["warnings"]) == 2


def test_pods_and_status_are_not_normalised() -> None:
    assert "patch" not in ask([Normaliser()], object={"metadata": {"namespace": "vision"}, "spec": {"a": None}})
    body = {"metadata": {"namespace": "vision"}, "spec": {"workers": None}}
    assert "patch" not in ask([Normaliser()], resource=JOBS, subResource="status", object=body)


def job(**spec: Any) -> Json:
    meta = {"name": "j", "namespace": "vision"}
    return {"apiVersion": "headrace.io/v1alpha1", "kind": "TrainJob", "metadata": meta, "spec": spec}


def test_every_mistake_is_refused_at_once() -> None:
    body = job(command=["x"], workers=0, expectedDuration="soon")
    response = ask(validating=[Validator()], path="/validate", resource=JOBS, object=body)
    fields = {cause["field"] for cause in response["status"]["details"]["causes"]}
    assert {"spec.workers", "spec.expectedDuration"} <= fields


def test_who_takes_the_last_finalizer_off_is_not_held_up() -> None:
    body = job(workers=0)
    body["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    asked: Json = {"resource": JOBS, "operation": "UPDATE", "object": body, "oldObject": body}
    assert ask([], [Validator()], "/validate", **asked)["allowed"] is True


@pytest.mark.parametrize(("author", "is_allowed"), [("ann", True), ("bob", False), (None, False)])
def test_who_undoes_the_stamp_after_us_is_refused(author: str | None, is_allowed: bool) -> None:
    body = job(command=["x"])
    body["metadata"]["annotations"] = {"headrace.io/submitted-by": author} if author else {}
    check = Unchanged(Authorship(set()), "It was changed.")
    response = ask(validating=[check], path="/validate", resource=JOBS, object=body)
    assert response["allowed"] is is_allowed
