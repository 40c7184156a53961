"""Accept headers of real clients, and what URLs name."""

from __future__ import annotations

import pytest

from headrace.engine.facade.media import Form, form, wants_aggregated_discovery
from headrace.engine.facade.refusals import NotAcceptable
from headrace.engine.facade.target import Target, parse
from headrace.errors import NotFound

KUBECTL_TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
KUBECTL_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Form()),
        ("*/*", Form()),
        ("application/json", Form()),
        ("application/json;stream=watch", Form()),
        (KUBECTL_TABLE, Form("Table")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Form("Table", "v1beta1")),
        ("application/json;as=Table;v=v7;g=meta.k8s.io,application/json", Form()),
        ("application/vnd.kubernetes.protobuf,application/json", Form()),
        ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json", Form()),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Form("PartialObjectMetadataList")),
        ("application/yaml", Form(is_yaml=True)),
        ("application/yaml;q=0.5, application/json", Form()),
        ("text/html, application/xhtml+xml, */*;q=0.8", Form()),
    ],
)
def test_the_first_form_that_can_be_made_is_chosen(accept: str, expected: Form) -> None:
    assert form(accept) == expected


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.kubernetes.protobuf",
        "application/cbor",
        "text/html",
        "application/json;q=0",
        "application/json;as=Nothing;g=meta.k8s.io;v=v1",
    ],
)
def test_what_cannot_be_made_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        form(accept)
    assert caught.value.http_status == 406


def test_aggregated_discovery_is_given_to_those_who_ask_for_it_first() -> None:
    assert wants_aggregated_discovery(KUBECTL_DISCOVERY)
    assert not wants_aggregated_discovery("application/json")
    assert not wants_aggregated_discovery("")
    assert not wants_aggregated_discovery(
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/a", Target("", "v1", "namespaces", name="a")),
        ("/api/v1/namespaces/a/status", Target("", "v1", "namespaces", name="a", subresource="status")),
        ("/api/v1/namespaces/a/finalize", Target("", "v1", "namespaces", name="a", subresource="finalize")),
        ("/api/v1/namespaces/a/pods", Target("", "v1", "pods", "a")),
        ("/api/v1/namespaces/a/pods/", Target("", "v1", "pods", "a")),
        ("/api/v1/namespaces/a/pods/p", Target("", "v1", "pods", "a", "p")),
        ("/api/v1/namespaces/a/pods/p/log", Target("", "v1", "pods", "a", "p", "log")),
        ("/api/v1/namespaces/a/pods/p/proxy/x/y", Target("", "v1", "pods", "a", "p", "proxy")),
        ("/api/v1/nodes/n/status", Target("", "v1", "nodes", name="n", subresource="status")),
        ("/apis/headrace.io/v1alpha1/trainjobs", Target("headrace.io", "v1alpha1", "trainjobs")),
        ("/apis/a.io/v1/namespaces/n/status/x", Target("a.io", "v1", "status", "n", "x")),
    ],
)
def test_a_path_names_a_resource(path: str, expected: Target) -> None:
    assert parse(path) == expected


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api", "/api/v1", "/apis/a/v1", "/api/v1/pods/p/log/more", "/api/v1//x"]
)
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        parse(path)
