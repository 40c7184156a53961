"""Our kinds, and the manifests that people are shown, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.documented import manifests
from tests.kubernetes.access import Access
from tests.kubernetes.fixtures import DEFINITIONS

from headrace.sdk.manifests import kind_of
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import FLUID_KINDS, HEADRACE_KINDS, TRAIN_JOB

MANIFESTS = [pytest.param(body, id=f"{where}-{body['kind']}") for where, body in manifests()]


@pytest.fixture(scope="module")
def namespace(kubernetes: Access) -> Iterator[str]:
    made = kubernetes.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "definitions-"}})
    yield made["metadata"]["name"]
    kubernetes.call("DELETE", f"/api/v1/namespaces/{made['metadata']['name']}")


@pytest.mark.parametrize("kind", [*FLUID_KINDS, *HEADRACE_KINDS], ids=lambda kind: kind.name)
def test_each_of_our_kinds_is_established(kubernetes: Access, kind: Kind[Any]) -> None:
    found = kubernetes.call("GET", f"{DEFINITIONS}/{kind.resource}")
    conditions = {each["type"]: (each["status"], each.get("message")) for each in found["status"]["conditions"]}
    assert conditions["Established"][0] == "True"
    assert "NonStructuralSchema" not in conditions, conditions


@pytest.mark.parametrize("body", MANIFESTS)
def test_each_manifest_that_people_are_shown_is_accepted(kubernetes: Access, namespace: str, body: Json) -> None:
    kind = kind_of(body)
    if kind.namespaced:
        body = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
    with kubernetes.client() as client:
        answer = client.post(f"{kind.path(namespace)}?dryRun=All&fieldValidation=Strict", json=body)
    assert answer.is_success, answer.text
    assert not answer.headers.get("warning")


def test_a_misspelt_field_of_ours_is_named(kubernetes: Access, namespace: str) -> None:
    body = {"metadata": {"name": "j"}, "spec": {"command": ["true"], "workerz": 2}}
    body = {"apiVersion": TRAIN_JOB.api_version, "kind": TRAIN_JOB.name, **body}
    with kubernetes.client() as client:
        answer = client.post(f"{TRAIN_JOB.path(namespace)}?dryRun=All&fieldValidation=Strict", json=body)
    assert answer.status_code == 400
    assert 'unknown field "spec.workerz"' in answer.json()["message"]
