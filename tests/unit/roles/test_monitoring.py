"""What a cluster is told of a process: alive, ready and why not, and figures."""

from __future__ import annotations

import re

import httpx2
import pytest
from starlette.testclient import TestClient

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.fake import FakeCluster
from headrace.cluster.lease import Lease
from headrace.cluster.protocol import MergePatch
from headrace.cluster.remote import RemoteCluster
from headrace.errors import NotFound
from headrace.roles.monitoring import Metrics, Readiness, Requests, monitoring_app
from headrace.spec.kind import Ref
from headrace.spec.kinds import DATASET, NAMESPACE, POD


async def nothing(_ref: Ref) -> Result:
    return Result()


def test_ready_is_who_waits_for_nothing() -> None:
    readiness = Readiness("cache", "certificate")
    client = TestClient(monitoring_app(readiness, list))
    assert client.get("/healthz").status_code == 200
    assert (client.get("/readyz").status_code, client.get("/readyz").text) == (503, "It is starting.\n")
    readiness.say("cache", "")
    readiness.say("certificate", "There is no certificate.")
    assert client.get("/readyz").text == "There is no certificate.\n"
    readiness.sayer("certificate")("")
    assert client.get("/readyz").status_code == 200


@pytest.mark.anyio
async def test_metrics_name_what_is_counted(fake: FakeCluster) -> None:
    cache = Cache(fake)
    controller = Controller("trainjobs", cache, nothing).watches(POD)
    controller.results["ok"] += 3
    metrics = Metrics(cache, [controller], Lease(fake, Ref("a", "b"), "me"))
    text = TestClient(monitoring_app(Readiness(), lambda: [metrics])).get("/metrics").text
    for line in (
        "headrace_leader 0.0",
        'headrace_reconciles_total{controller="trainjobs",result="ok"} 3.0',
        'headrace_queue_depth{controller="trainjobs"} 0.0',
        'headrace_cached_objects{resource="pods"} 0.0',
    ):
        assert line in text.splitlines()
    assert re.search(r"^process_resident_memory_bytes [1-9]", text, re.MULTILINE)


@pytest.mark.anyio
async def test_what_is_asked_of_the_api_server_is_counted_by_resource() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        found = "missing" not in request.url.path
        return httpx2.Response(200 if found else 404, json={"metadata": {}} if found else {"reason": "NotFound"})

    client = httpx2.AsyncClient(base_url="https://cluster.test", transport=httpx2.MockTransport(answer))
    async with RemoteCluster(client) as cluster:
        for name in ("a", "b"):
            await cluster.patch(DATASET, Ref("vision", name), MergePatch({}), subresource="status")
        await cluster.get(NAMESPACE, Ref("", "vision"))
        await cluster.list(POD)
        with pytest.raises(NotFound):
            await cluster.get(POD, Ref("vision", "missing"))
        await cluster.request("GET", "/version")
        text = TestClient(monitoring_app(Readiness(), lambda: [Requests(cluster)])).get("/metrics").text
    counted = {line for line in text.splitlines() if line.startswith("headrace_api_requests_total{")}
    assert counted == {
        'headrace_api_requests_total{method="PATCH",resource="datasets/status",status="200"} 2.0',
        'headrace_api_requests_total{method="GET",resource="namespaces",status="200"} 1.0',
        'headrace_api_requests_total{method="GET",resource="pods",status="200"} 1.0',
        'headrace_api_requests_total{method="GET",resource="pods",status="404"} 1.0',
        'headrace_api_requests_total{method="GET",resource="",status="200"} 1.0',
    }
