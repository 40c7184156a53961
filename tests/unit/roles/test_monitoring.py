"""What a cluster is told of a process: alive, ready and why not, and figures."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.fake import FakeCluster
from headrace.cluster.lease import Lease
from headrace.roles.monitoring import Metrics, Readiness, monitoring_app
from headrace.spec.kind import Ref
from headrace.spec.kinds import POD


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
