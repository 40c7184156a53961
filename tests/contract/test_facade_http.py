"""The wire: credentials, forms of answers, watch streams, options and errors, as plain HTTPS clients see them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from tests.kubernetes.fixtures import wait

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MERGE = "application/merge-patch+json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def make(facade: Any, namespace: str, name: str, **data: str) -> Any:
    body = {"metadata": {"name": name}, "data": data}
    return facade.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)


# -- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong", "a.b.c"])
def test_without_a_valid_token_there_is_nothing(facade: Any, token: str) -> None:
    with facade.client(token) as client:
        for path in ("/api/v1/pods", "/apis", "/openapi/v3", "/apis/headrace.io/v1alpha1/pools", "/nothing"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized"), path
    with facade.client("") as client:
        assert client.get("/healthz").text == "ok"
        assert client.get("/readyz").text == "ok"
        assert client.get("/version").json()["major"] == "1"


def test_a_service_accounts_token_is_good_until_the_account_goes(facade: Any, namespace: str) -> None:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    facade.call("POST", accounts, {"metadata": {"name": "robot"}})
    asked = {"spec": {"expirationSeconds": 600}}
    token = facade.call("POST", f"{accounts}/robot/token", asked)["status"]["token"]
    review = {"spec": {"token": token}}
    found = facade.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert found["authenticated"] is True
    assert found["user"]["username"] == f"system:serviceaccount:{namespace}:robot"
    with facade.client(token) as client:
        assert client.get("/api/v1/namespaces/default/pods").status_code == 403
        assert client.get(f"/api/v1/namespaces/{namespace}/secrets").status_code == 403
        assert client.post(accounts, json={"metadata": {"name": "x"}}).status_code == 403
        facade.call("DELETE", f"{accounts}/robot")
        # A real API server believes for 10 s what it has once found out about a token.
        wait(lambda: client.get(f"/api/v1/namespaces/{namespace}/pods").status_code == 401, "the token is refused")
    found = facade.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert not found.get("authenticated")
    assert "robot" in found["error"]


@pytest.mark.embedded("a fixed policy stands in for RBAC")
def test_a_service_account_reads_its_namespace(facade: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    facade.call("POST", f"{path}/serviceaccounts", {"metadata": {"name": "robot"}})
    token = facade.call("POST", f"{path}/serviceaccounts/robot/token", {"spec": {}})["status"]["token"]
    with facade.client(token) as client:
        assert client.get(f"{path}/pods").status_code == 200


def test_a_node_may_only_speak_for_itself(facade: Any, namespace: str) -> None:
    mine, other = f"{namespace}-mine", f"{namespace}-other"
    facade.call("POST", "/api/v1/nodes", {"metadata": {"name": other}})
    with facade.client() as client:
        client.headers.update({"impersonate-user": f"system:node:{mine}", "impersonate-group": "system:nodes"})
        assert client.post("/api/v1/nodes", json={"metadata": {"name": mine}}).status_code == 201
        patch = {"status": {"phase": "Running"}}
        headers = {"content-type": MERGE}
        assert client.patch(f"/api/v1/nodes/{mine}/status", json=patch, headers=headers).status_code == 200
        refused = client.patch(f"/api/v1/nodes/{other}/status", json=patch, headers=headers)
        assert (refused.status_code, refused.json()["reason"]) == (403, "Forbidden")
    for name in (mine, other):
        facade.call("DELETE", f"/api/v1/nodes/{name}")


def test_reviews(facade: Any) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    asked = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "default"}}}
    assert facade.call("POST", path, asked)["status"] == {"allowed": True}
    they = {"spec": {**asked["spec"], "user": "system:node:own", "groups": ["system:nodes"]}}
    status = facade.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", they)["status"]
    assert status["allowed"] is True
    with facade.client() as client:
        assert client.post(path, json={"spec": {}}).status_code == 422
        assert client.get(path).status_code == 405


# -- forms -----------------------------------------------------------------------------------------------------------


def test_forms_of_an_answer(facade: Any, namespace: str) -> None:
    make(facade, namespace, "c", a="1")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with facade.client() as client:

        def get(where: str, accept: str) -> Any:
            return client.get(where, headers={"accept": accept})

        table = get(f"{path}/c", TABLE).json()
        assert table["kind"] == "Table"
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert table["rows"][0]["cells"][:2] == ["c", 1]
        assert get(f"{path}?includeObject=Object", TABLE).json()["rows"][0]["object"]["data"]
        partial = get(f"{path}/c", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").json()
        assert (partial["kind"], "data" in partial) == ("PartialObjectMetadata", False)
        partials = get(path, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").json()
        assert partials["items"][0]["kind"] == "PartialObjectMetadata"
        assert get(f"{path}/c", "application/yaml").text.startswith("apiVersion: v1\n")
        refused = get(path, "text/html")
        assert (refused.status_code, refused.json()["reason"]) == (406, "NotAcceptable")
        assert get(f"{path}/nobody", TABLE).json()["kind"] == "Status"


@pytest.mark.embedded("a real API server answers in protobuf too")
def test_no_answer_is_protobuf(facade: Any, namespace: str) -> None:
    with facade.client() as client:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        refused = client.get(path, headers={"accept": "application/vnd.kubernetes.protobuf"})
        assert (refused.status_code, refused.json()["reason"]) == (406, "NotAcceptable")


def test_bodies_may_be_yaml(facade: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with facade.client() as client:
        yaml = client.post(
            path, content="metadata: {name: written}\ndata: {a: b}\n", headers={"content-type": "application/yaml"}
        )
        assert (yaml.status_code, yaml.json()["data"]) == (201, {"a": "b"})
        cbor = client.post(path, content=b"k8s\0", headers={"content-type": "application/cbor"})
        assert (cbor.status_code, cbor.json()["reason"]) == (415, "UnsupportedMediaType")
        damaged = client.post(path, content=b"k8s\0", headers={"content-type": "application/vnd.kubernetes.protobuf"})
        assert (damaged.status_code, damaged.json()["reason"]) == (400, "BadRequest")
        assert client.post(path, content=b"{", headers={"content-type": "application/json"}).status_code == 400
        assert client.post(path).status_code == 400
        big = {"metadata": {"name": "big"}, "data": {"a": "x" * (3 * 1024 * 1024)}}
        assert client.post(path, json=big).status_code == 413


def test_discovery_documents(facade: Any) -> None:
    with facade.client() as client:
        aggregated = client.get("/apis", headers={"accept": f"{AGGREGATED},application/json"})
        assert aggregated.headers["content-type"] == AGGREGATED
        assert aggregated.json()["kind"] == "APIGroupDiscoveryList"
        known = {"accept": AGGREGATED, "if-none-match": aggregated.headers["etag"]}
        assert client.get("/apis", headers=known).status_code == 304
        assert client.get("/api/v1").json()["kind"] == "APIResourceList"
        assert client.get("/apis/headrace.io/v1alpha1").json()["groupVersion"] == "headrace.io/v1alpha1"
        assert client.get("/apis/nothing.io").status_code == 404


def test_openapi_documents_are_cached_by_hash(facade: Any) -> None:
    with facade.client() as client:
        places = client.get("/openapi/v3").json()["paths"]
        url = places["api/v1"]["serverRelativeURL"]
        found = client.get(url)
        assert "immutable" in found.headers["cache-control"]
        assert found.json()["openapi"].startswith("3.")
        assert client.get(url, headers={"if-none-match": found.headers["etag"]}).status_code == 304
        assert client.get("/openapi/v3/api/v1?hash=old").status_code == 301
        assert client.get("/openapi/v3/api/v1", headers={"accept-encoding": "identity"}).json() == found.json()
        patch = found.json()["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
        assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
        assert client.get("/openapi/v3/apis/nothing/v1").status_code == 404


# -- verbs and options -----------------------------------------------------------------------------------------------


def test_errors_are_statuses_with_causes(facade: Any, namespace: str) -> None:
    with facade.client() as client:
        path = f"/api/v1/namespaces/{namespace}"
        missing = client.get(f"{path}/pods/nobody").json()
        assert missing["message"] == 'pods "nobody" not found'
        assert missing["details"] == {"name": "nobody", "kind": "pods"}
        invalid = client.post(f"{path}/configmaps", json={"metadata": {"name": "Not_A_Name"}})
        assert invalid.status_code == 422
        assert invalid.json()["details"]["causes"][0]["field"] == "metadata.name"
        assert client.get("/apis/nothing.io/v1/things").status_code == 404
        assert client.put(f"{path}/configmaps", json={}).json()["reason"] == "MethodNotAllowed"
        assert client.get(f"/api/v1/namespaces/{namespace}/nodes").status_code in {404, 405}
        assert client.get(f"{path}/pods?limit=many").json()["reason"] == "BadRequest"
        assert client.get(f"{path}/pods?labelSelector=a,,b=c=d").status_code == 400
        assert client.post(f"{path}/configmaps?dryRun=Some", json={"metadata": {"name": "d"}}).status_code == 422
        assert (
            client.post(f"{path}/configmaps?fieldValidation=Some", json={"metadata": {"name": "d"}}).status_code == 422
        )


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=many", 400),
        ("timeoutSeconds=soon", 400),
        ("resourceVersion=old", 400),
        ("labelSelector=a%3D%3D%3D", 400),
        ("fieldSelector=a", 400),
        ("continue=nonsense", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=NotOlderThan", 422),
        ("resourceVersionMatch=Perhaps&resourceVersion=1", 422),
        ("limit=5&resourceVersion=0", 200),
        ("watch=maybe&timeoutSeconds=1", 200),
    ],
)
def test_options_of_lists(facade: Any, namespace: str, query: str, status: int) -> None:
    with facade.client() as client:
        assert client.get(f"/api/v1/namespaces/{namespace}/secrets?{query}").status_code == status


def test_warnings_are_headers(facade: Any, namespace: str) -> None:
    with facade.client() as client:
        body = {"metadata": {"name": "w"}, "dat": {}}
        answer = client.post(f"/api/v1/namespaces/{namespace}/configmaps", json=body)
        assert answer.headers["warning"] == '299 - "unknown field \\"dat\\""'


def test_delete_options_in_body_and_query(facade: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = make(facade, namespace, "c")
    with facade.client() as client:

        def delete(where: str, body: Any = None) -> Any:
            return client.request("DELETE", where, json=body)

        assert delete(f"{path}/c", {"preconditions": {"uid": "another"}}).status_code == 409
        assert delete(f"{path}/c", {"preconditions": {"resourceVersion": "1"}}).status_code == 409
        assert delete(f"{path}/c", {"dryRun": ["All"]}).status_code == 200
        assert delete(f"{path}/c?dryRun=All").status_code == 200
        assert delete(f"{path}/c", {"propagationPolicy": "Sideways"}).status_code == 422
        assert delete(f"{path}/c", {"gracePeriodSeconds": "soon"}).status_code == 400
        assert delete(f"{path}/c", {"gracePeriodSeconds": -1, "dryRun": ["All"]}).status_code == 200  # counts as 1
        done = delete(f"{path}/c", {"preconditions": {"uid": made["metadata"]["uid"]}})
        assert (done.status_code, done.json()["status"]) == (200, "Success")
        for name in ("a", "b"):
            make(facade, namespace, name)
        assert delete(f"{path}?fieldSelector=metadata.name=a").status_code == 200
        names = {item["metadata"]["name"] for item in client.get(path).json()["items"]}
        assert ("a" in names, "b" in names) == (False, True)


def test_a_list_in_pages_is_of_one_moment(facade: Any, namespace: str) -> None:
    for index in range(5):
        make(facade, namespace, f"c{index}")
    path = f"/api/v1/namespaces/{namespace}/configmaps?labelSelector=!x"
    first = facade.call("GET", f"{path}&limit=2")
    make(facade, namespace, "c00")
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = facade.call("GET", f"{path}&limit=2&continue={token}")
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
    assert [name for name in names if name.startswith("c")] == [f"c{index}" for index in range(5)]


# -- watch -----------------------------------------------------------------------------------------------------------


def events(facade: Any, path: str, count: int, accept: str = "application/json", during: Any = None) -> list[Any]:
    """Return the first `count` events of a watch; `during` runs once the stream is open."""
    found: list[Any] = []
    with facade.client() as client:
        with client.stream("GET", path, headers={"accept": accept}) as answer:
            assert answer.status_code == 200
            if during is not None:
                threading.Timer(0.05, during).start()
            for line in answer.iter_lines():
                found.append(json.loads(line))
                if len(found) == count:
                    break
    return found


def test_a_watch_goes_on_from_a_version(facade: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    since = facade.call("GET", path)["metadata"]["resourceVersion"]
    make(facade, namespace, "c")
    facade.call("PATCH", f"{path}/c", {"data": {"a": "b"}}, MERGE)
    facade.call("DELETE", f"{path}/c")
    found = events(facade, f"{path}?watch=1&resourceVersion={since}&timeoutSeconds=5", 3)
    assert [event["type"] for event in found] == ["ADDED", "MODIFIED", "DELETED"]
    assert found[1]["object"]["data"] == {"a": "b"}
    assert found[0]["object"]["kind"] == "ConfigMap"


def test_a_watch_without_a_version_begins_with_what_is_there(facade: Any, namespace: str) -> None:
    make(facade, namespace, "c")
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true&fieldSelector=metadata.name=c"
    found = events(
        facade, path, 2, during=lambda: facade.call("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/c")
    )
    assert [event["type"] for event in found] == ["ADDED", "DELETED"]


def test_a_watch_list_ends_its_beginning_with_a_bookmark(facade: Any, namespace: str) -> None:
    make(facade, namespace, "c")
    options = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    path = f"/api/v1/namespaces/{namespace}/configmaps?fieldSelector=metadata.name=c&{options}"
    added, bookmark = events(facade, path, 2)
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    with facade.client() as client:
        bare = client.get(f"/api/v1/namespaces/{namespace}/configmaps?watch=1&sendInitialEvents=true")
        assert bare.status_code == 422


def test_a_watch_of_tables_names_its_columns_once(facade: Any, namespace: str) -> None:
    make(facade, namespace, "a")
    make(facade, namespace, "b")
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1&fieldSelector=metadata.name!=kube-root-ca.crt"
    first, second = events(facade, path, 2, accept=f"{TABLE},application/json")
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert not second["object"].get("columnDefinitions")
    assert second["object"]["rows"][0]["cells"][0] == "b"


@pytest.fixture
def lost_version(request: pytest.FixtureRequest) -> str:
    """A version that no watch can begin at: older than anything known, or of a store that is no more."""
    return "1" if request.config.getoption("kubernetes") else "999999999"


def test_a_watch_that_cannot_begin_says_so_in_its_stream(facade: Any, namespace: str, lost_version: str) -> None:
    path = f"/apis/data.fluid.io/v1alpha1/namespaces/{namespace}/datasets?watch=1&resourceVersion={lost_version}"
    (event,) = events(facade, path, 1)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_a_watch_ends_when_its_time_is_up(facade: Any, namespace: str) -> None:
    with facade.client() as client:
        answer = client.get(f"/api/v1/namespaces/{namespace}/pods?watch=1&timeoutSeconds=1")
    assert (answer.status_code, answer.content) == (200, b"")
