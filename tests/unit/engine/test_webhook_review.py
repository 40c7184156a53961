"""What webhooks answer, by table; most of it is in the contract suite, with a real API server beside it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headrace.engine.pipeline.webhooks import review
from headrace.engine.pipeline.webhooks.addressing import endpoints
from headrace.engine.pipeline.webhooks.review import Unusable, Verdict

Json = dict[str, Any]


def packed(*operations: Json) -> str:
    return base64.b64encode(json.dumps(operations).encode()).decode()


ADD = {"op": "add", "path": "/a", "value": 1}


def answered(version: str, *, may_patch: bool = True, **response: Any) -> Verdict:
    body = {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "response": {"uid": "u", **response},
    }
    return review.answer(json.dumps(body).encode(), "u", version, may_patch=may_patch)


@pytest.mark.parametrize(
    ("version", "response", "verdict"),
    [
        ("v1", {"allowed": True}, Verdict(True)),
        ("v1", {}, Verdict(False)),
        ("v1", {"allowed": "yes"}, Verdict(False)),
        ("v1", {"allowed": True, "patch": packed(ADD), "patchType": "JSONPatch"}, Verdict(True, [ADD])),
        ("v1", {"allowed": True, "patch": packed(), "patchType": "JSONPatch"}, Verdict(True, [])),
        ("v1", {"allowed": False, "patch": packed(ADD), "patchType": "JSONPatch"}, Verdict(False)),
        ("v1", {"allowed": False, "status": {"code": 403}}, Verdict(False, None, {"code": 403})),
        ("v1", {"allowed": True, "warnings": ["a"]}, Verdict(True, warnings=["a"])),
        ("v1beta1", {"allowed": True, "patch": packed(ADD)}, Verdict(True, [ADD])),
        ("v1beta1", {"uid": "another", "allowed": True}, Verdict(True)),
    ],
)
def test_answers(version: str, response: Json, verdict: Verdict) -> None:
    assert answered(version, **response) == verdict


def test_a_validating_webhook_of_the_older_review_patches_in_vain() -> None:
    assert answered("v1beta1", may_patch=False, allowed=True, patch=packed(ADD)) == Verdict(True)


@pytest.mark.parametrize("patch", ["no base64!", base64.b64encode(b"{}").decode(), base64.b64encode(b"x").decode()])
def test_patches_that_are_none(patch: str) -> None:
    with pytest.raises(Unusable, match="received undecodable patch in webhook response"):
        answered("v1", allowed=True, patch=patch, patchType="JSONPatch")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            {"response": {"uid": "u"}},
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
        ),
        ({"apiVersion": "v1", "kind": "Pod", "response": {"uid": "u"}}, "got /v1, Kind=Pod"),
        ({"response": []}, "webhook response was absent"),
    ],
)
def test_reviews_that_are_none(body: Json, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        review.answer(json.dumps(body).encode(), "u", "v1", may_patch=True)


@pytest.mark.parametrize(("offered", "chosen"), [(["v1"], "v1"), (["v1beta1", "v1"], "v1beta1"), (["v2", "v1"], "v1")])
def test_versions(offered: list[str], chosen: str) -> None:
    assert review.chosen_version(offered) == chosen


def test_no_version_in_common() -> None:
    with pytest.raises(Unusable, match=r"does not accept known AdmissionReview versions \(v1, v1beta1\)"):
        review.chosen_version(["v2"])


def pod(ip: str = "127.64.0.2", *, ready: str = "True", app: str = "web") -> Json:
    ports = [{"name": "https", "containerPort": 8443}]
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"ports": []}, {"ports": ports}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("selector", "target", "pods", "found"),
    [
        ({"app": "web"}, 443, [pod()], [("127.64.0.2", 443)]),
        ({"app": "web"}, "https", [pod(), pod("127.64.0.3")], [("127.64.0.2", 8443), ("127.64.0.3", 8443)]),
        ({"app": "web"}, "other", [pod()], []),
        ({"app": "db"}, 443, [pod()], []),
        ({"app": "web"}, 443, [pod(ready="False")], []),
        ({"app": "web"}, 443, [pod("")], []),
        ({}, 443, [pod()], []),
        ({"app": "web"}, 443, [{"metadata": {}}], []),
    ],
)
def test_pods_behind_a_service(
    selector: Json, target: int | str, pods: list[Json], found: list[tuple[str, int]]
) -> None:
    assert endpoints(selector, target, pods) == found
