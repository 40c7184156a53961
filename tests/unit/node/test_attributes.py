"""What a request to a node's endpoint does, held against kubelet's own table (`pkg/kubelet/server/auth_test.go`)."""

from __future__ import annotations

import pytest

from headrace.node.attributes import attributes

KUBELETS = {
    "/checkpoint/ns/pod/container": ["checkpoint"],
    "/configz": ["configz", "proxy"],
    "/flagz": ["configz"],
    "/statusz": ["statusz"],
    "/containerLogs/ns/pod/container": ["proxy"],
    "/debug/flags/v": ["proxy"],
    "/debug/pprof/heap": ["proxy"],
    "/healthz": ["healthz", "proxy"],
    "/healthz/log": ["healthz", "proxy"],
    "/healthz/syncloop": ["healthz", "proxy"],
    "/logs/": ["log"],
    "/logs/kubelet.log": ["log"],
    "/metrics": ["metrics"],
    "/metrics/cadvisor": ["metrics"],
    "/metrics/resource": ["metrics"],
    "/pods": ["pods", "proxy"],
    "/pods/": ["pods", "proxy"],
    "/runningpods/": ["pods", "proxy"],
    "/stats/": ["stats"],
    "/stats/summary": ["stats"],
    # Not in the table, but by the same rule: a longer word is another one.
    "/": ["proxy"],
    "/podsandmore": ["proxy"],
    "/statsy": ["proxy"],
    "/metricsexec": ["proxy"],
}
VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "OPTIONS": ""}


@pytest.mark.parametrize("path", KUBELETS)
@pytest.mark.parametrize("method", VERBS)
def test_as_a_kubelet(method: str, path: str) -> None:
    asked = [each["resourceAttributes"] for each in attributes("n", method, path)]
    assert [each.pop("subresource") for each in asked] == KUBELETS[path]
    common = {"verb": VERBS[method], "group": "", "version": "v1", "resource": "nodes", "name": "n"}
    assert all(each == common for each in asked)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    ["/exec/ns/p/c", "/exec/ns/p/uid/c", "/attach/ns/p/c", "/run/ns/p/c", "/portForward/ns/p", "/portForward/ns/p/uid"],
)
def test_reaching_into_pods_is_no_reading(method: str, path: str) -> None:
    (asked,) = attributes("n", method, path)
    assert (asked["resourceAttributes"]["verb"], asked["resourceAttributes"]["subresource"]) == ("create", "proxy")
