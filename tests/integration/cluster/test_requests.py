"""What the remote client sends, and what it makes of answers and failures."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import JsonPatch, MergePatch, Scope, ServerSideApply
from headrace.cluster.remote import RemoteCluster, transport
from headrace.cluster.remote.connection import Connection
from headrace.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    EngineFailed,
    Expired,
    HeadraceError,
    InvalidSpec,
    NotFound,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import CONFIG_MAP, NODE, POD

pytestmark = pytest.mark.anyio

REF = Ref("vision", "a")
PATH = "/api/v1/namespaces/vision/configmaps"
OBJECT: Json = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "vision", "resourceVersion": "7"},
}


async def test_get_over_one_kept_connection(server: Any, remote: RemoteCluster) -> None:
    server.answers(200, OBJECT)
    for _ in range(5):
        doc = await remote.get(CONFIG_MAP, REF)
    assert (doc.name, doc.version, doc.kind) == ("a", "7", CONFIG_MAP)
    assert (server.last.method, server.last.path) == ("GET", f"{PATH}/a")
    assert server.connections == 1


async def test_lists_in_chunks_with_selectors(server: Any, remote: RemoteCluster) -> None:
    server.answers(
        200, {"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    )
    server.answers(200, {"metadata": {"resourceVersion": "9"}, "items": None})
    where = Scope(namespace="vision", labels="a=b,c in (d)", fields="metadata.name=x")
    page = await remote.list(CONFIG_MAP, where, limit=1)
    assert server.last.query == {"labelSelector": "a=b,c in (d)", "fieldSelector": "metadata.name=x", "limit": "1"}
    assert [doc.raw for doc in page.items] == [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]
    assert (page.version, page.resume) == ("9", "more")
    page = await remote.list(CONFIG_MAP, limit=0, resume="more")
    assert (server.last.path, server.last.query) == ("/api/v1/configmaps", {"continue": "more"})
    assert (page.items, page.resume) == ([], "")


async def test_create(server: Any, remote: RemoteCluster) -> None:
    server.answers(201, OBJECT)
    await remote.create(CONFIG_MAP, {"metadata": {"name": "a", "namespace": "vision"}}, dry_run=True)
    assert (server.last.method, server.last.path, server.last.query) == ("POST", PATH, {"dryRun": "All"})
    assert server.last.json == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "vision"},
    }
    with pytest.raises(InvalidSpec, match=r"metadata\.namespace"):
        await remote.create(CONFIG_MAP, {"metadata": {"name": "a"}})
    with pytest.raises(InvalidSpec, match=r"metadata\.namespace"):
        await remote.create(NODE, {"metadata": {"name": "a", "namespace": "vision"}})


async def test_patches(server: Any, remote: RemoteCluster) -> None:
    server.answers(200, OBJECT)
    await remote.patch(POD, REF, MergePatch({"status": {"phase": None}}), subresource="status")
    assert (server.last.method, server.last.path) == ("PATCH", "/api/v1/namespaces/vision/pods/a/status")
    assert server.last.headers["content-type"] == "application/merge-patch+json"
    assert server.last.json == {"status": {"phase": None}}
    await remote.patch(POD, REF, JsonPatch([{"op": "remove", "path": "/x"}]), dry_run=True)
    assert server.last.headers["content-type"] == "application/json-patch+json"
    assert server.last.json == [{"op": "remove", "path": "/x"}]
    assert server.last.query == {"dryRun": "All"}
    await remote.patch(CONFIG_MAP, REF, ServerSideApply({"data": {}}, "headrace", force=True))
    assert server.last.headers["content-type"] == "application/apply-patch+yaml"
    assert server.last.query == {"fieldManager": "headrace", "force": "true"}
    assert server.last.json == {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}


async def test_delete_and_its_conditions(server: Any, remote: RemoteCluster) -> None:
    server.answers(200, {"kind": "Status", "status": "Success"})
    await remote.delete(CONFIG_MAP, REF)
    assert server.last.json == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    await remote.delete(CONFIG_MAP, REF, uid="u", version="7", grace_s=0, propagation="Foreground")
    assert (server.last.method, server.last.path) == ("DELETE", f"{PATH}/a")
    assert server.last.json["preconditions"] == {"uid": "u", "resourceVersion": "7"}
    assert server.last.json["gracePeriodSeconds"] == 0
    assert server.last.json["propagationPolicy"] == "Foreground"


async def test_evict_and_bind(server: Any, remote: RemoteCluster) -> None:
    server.answers(201, {"kind": "Status", "status": "Success"})
    await remote.evict(REF, grace_s=3)
    assert (server.last.method, server.last.path) == ("POST", "/api/v1/namespaces/vision/pods/a/eviction")
    assert server.last.json["metadata"] == {"name": "a", "namespace": "vision"}
    assert server.last.json["deleteOptions"] == {"gracePeriodSeconds": 3}
    await remote.bind(REF, "own")
    assert server.last.path == "/api/v1/namespaces/vision/pods/a/binding"
    assert server.last.json["target"] == {"apiVersion": "v1", "kind": "Node", "name": "own"}


async def test_requests_to_any_path(server: Any, remote: RemoteCluster) -> None:
    server.answers(200, {"x": 1})
    server.answers(200, b"bytes", content_type="application/octet-stream")
    server.answers(204, b"")
    assert await remote.request("POST", "/apis/reads/quote", query={"q": "1", "no": None}, body={"a": 1}) == {"x": 1}
    assert (server.last.query, server.last.json) == ({"q": "1"}, {"a": 1})
    assert await remote.request("PUT", "/apis/reads/code", body=b"\0tar", accept="application/x-tar") == b"bytes"
    assert server.last.headers["content-type"] == "application/octet-stream"
    assert (server.last.headers["accept"], server.last.body) == ("application/x-tar", b"\0tar")
    assert await remote.request("DELETE", "/apis/reads/code") == b""


async def test_names_cannot_leave_their_path(server: Any, remote: RemoteCluster) -> None:
    server.answers(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no"})
    with pytest.raises(NotFound):
        await remote.get(CONFIG_MAP, Ref("vision", "../secrets/x?y#z"))
    assert server.last.head.split(b" ")[1] == f"{PATH}/..%2Fsecrets%2Fx%3Fy%23z".encode()


async def test_a_path_before_the_api_is_kept(server: Any) -> None:
    server.answers(200, OBJECT)
    async with RemoteCluster(Connection(server=f"{server.url}/k8s/clusters/c1").open()) as remote:
        await remote.get(CONFIG_MAP, REF)
    assert server.last.path == f"/k8s/clusters/c1{PATH}/a"


@pytest.mark.parametrize(
    ("status", "reason", "message", "expected"),
    [
        (400, "BadRequest", "bad", InvalidSpec),
        (401, "Unauthorized", "Unauthorized", Denied),
        (403, "Forbidden", "may not", Denied),
        (403, "Forbidden", 'pods "a" is forbidden: exceeded quota: q, requested: cpu=2', QuotaExceeded),
        (403, "QuotaExceeded", "Too much.", QuotaExceeded),
        (404, "NotFound", 'configmaps "a" not found', NotFound),
        (405, "MethodNotAllowed", "no", Unsupported),
        (409, "Conflict", "changed", Conflict),
        (409, "AlreadyExists", "exists", AlreadyExists),
        (410, "Expired", "too old", Expired),
        (413, "RequestEntityTooLarge", "large", InvalidSpec),
        (415, "UnsupportedMediaType", "media", Unsupported),
        (422, "Invalid", "invalid", InvalidSpec),
        (429, "TooManyRequests", "slow down", Unavailable),
        (500, "InternalError", "broken", EngineFailed),
        (501, "Unsupported", "Not here.", Unsupported),
        (502, "", "gateway", Unavailable),
        (503, "ServiceUnavailable", "starting", Unavailable),
        (504, "Timeout", "late", Unavailable),
    ],
)
async def test_statuses_are_errors(
    server: Any, remote: RemoteCluster, status: int, reason: str, message: str, expected: type[HeadraceError]
) -> None:
    server.answers(status, {"kind": "Status", "code": status, "reason": reason, "message": message})
    with pytest.raises(HeadraceError) as caught:
        await remote.get(CONFIG_MAP, REF)
    assert type(caught.value) is expected
    assert caught.value.code == (reason or expected.code) or expected is QuotaExceeded
    assert message.rstrip(".") in str(caught.value)


async def test_what_a_refusal_says_reaches_the_caller(server: Any, remote: RemoteCluster) -> None:
    causes = [{"field": "spec.workers", "message": "must be 1 or more"}]
    status = {"kind": "Status", "code": 422, "reason": "Invalid", "message": "Wrong.", "details": {"causes": causes}}
    server.answers(422, status)
    server.answers(429, {"kind": "Status", "code": 429, "message": "slow"}, retry_after="7")
    server.answers(500, {"kind": "Status", "code": 500, "message": "etcd", "details": {"retryAfterSeconds": 3}})
    server.answers(502, b"<html>Bad Gateway</html>", content_type="text/html")
    server.answers(404, b"404 page not found\n", content_type="text/plain")
    with pytest.raises(InvalidSpec) as invalid:
        await remote.get(CONFIG_MAP, REF)
    assert invalid.value.causes == (("spec.workers", "must be 1 or more"),)
    assert str(invalid.value) == "Wrong."
    with pytest.raises(Unavailable) as busy:
        await remote.get(CONFIG_MAP, REF)
    assert busy.value.retry_after_s == 7
    with pytest.raises(Unavailable) as broken:
        await remote.get(CONFIG_MAP, REF)
    assert broken.value.retry_after_s == 3
    with pytest.raises(Unavailable, match="<html>Bad Gateway</html>"):
        await remote.get(CONFIG_MAP, REF)
    with pytest.raises(NotFound, match="404 page not found"):
        await remote.get(CONFIG_MAP, REF)


async def test_what_is_no_kubernetes_api_is_named(server: Any, remote: RemoteCluster) -> None:
    server.answers(200, b"<html>Please log in</html>", content_type="text/html")
    with pytest.raises(Unavailable, match="not what a Kubernetes API sends"):
        await remote.get(CONFIG_MAP, REF)
    with pytest.raises(Unavailable, match="not what a Kubernetes API sends"):
        await remote.list(CONFIG_MAP)


async def test_nobody_listens() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    await listener.aclose()
    async with RemoteCluster(Connection(server=url).open()) as remote:
        with pytest.raises(Unavailable, match=f"{url} cannot be reached"):
            await remote.get(CONFIG_MAP, REF)
        with pytest.raises(Unavailable, match="cannot be reached"):
            async with remote.watch(CONFIG_MAP, since="1"):
                pass
        with pytest.raises(Unavailable, match="cannot be reached"):
            await remote.exec(REF, ["ls"])


async def test_a_server_that_says_nothing_is_given_up(
    server: Any, remote: RemoteCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TIMEOUT_S", 0.1)
    server.script(lambda _: anyio.sleep_forever())
    with pytest.raises(Unavailable, match=rf"said nothing to GET {PATH}/a for 0\.1 s"):
        await remote.get(CONFIG_MAP, REF)


async def test_an_answer_that_is_cut(server: Any, remote: RemoteCluster) -> None:
    async def half(exchange: Any) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await exchange.cut()

    server.script(half)
    with pytest.raises(Unavailable, match="was lost during GET"):
        await remote.get(CONFIG_MAP, REF)


async def test_a_server_that_restarted_is_reached_over_a_new_connection(server: Any, remote: RemoteCluster) -> None:
    async def answer_and_die(exchange: Any) -> None:
        await exchange.answer(200, OBJECT)
        await exchange.cut()

    server.script(answer_and_die)
    for _ in range(3):
        await remote.get(CONFIG_MAP, REF)
        await anyio.sleep(0.02)  # until the end of the connection has arrived
    assert server.connections == 3


async def test_warnings_reach_whoever_wants_them(server: Any) -> None:
    server.answers(200, OBJECT, warning='299 - "unknown field \\"spec.x\\"", 299 - "v1beta1 is deprecated"')
    warnings: list[str] = []
    client = Connection(server=server.url).open()
    async with RemoteCluster(client, on_warning=warnings.append) as remote:
        await remote.get(CONFIG_MAP, REF)
    assert warnings == ['unknown field "spec.x"', "v1beta1 is deprecated"]


async def test_a_warning_is_logged_once(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers(200, OBJECT, warning='299 - "v1beta1 is deprecated"')
    async with RemoteCluster(Connection(server=server.url).open()) as remote:
        for _ in range(3):
            await remote.get(CONFIG_MAP, REF)
    assert capsys.readouterr().out.count("v1beta1 is deprecated") == 1
