"""Who is known by name on a node that may read its own pods only."""

from __future__ import annotations

from typing import Any

from headrace.node.network import Addresses, hosts_file
from headrace.node.peers import peers_of_slice
from headrace.node.podspec import PodSpec


def endpoint_slice(**fields: Any) -> dict[str, Any]:
    endpoints = [
        {"addresses": ["10.1.0.1"], "hostname": "w-0", "nodeName": "far", "conditions": {"ready": True}},
        {"addresses": ["10.1.0.2"], "nodeName": "far", "conditions": {"ready": False}},
        {"addresses": ["10.9.9.9"], "hostname": "w-1", "nodeName": "here", "conditions": {"ready": True}},
        {"addresses": ["10.1.0.3"], "nodeName": "far"},
    ]
    meta = {"name": "gang-x", "namespace": "ns", "labels": {"kubernetes.io/service-name": "gang"}}
    return {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, **fields}


def test_a_slice_names_the_pods_of_other_nodes() -> None:
    found = peers_of_slice(endpoint_slice(), "here")
    told = [(peer.address, peer.hostname, peer.service, peer.is_ready) for peer in found]
    assert told == [
        ("10.1.0.1", "w-0", "gang", True),
        ("10.1.0.2", "", "gang", False),
        ("10.1.0.3", "", "gang", True),  # nothing said is ready (EndpointConditions)
    ]
    assert peers_of_slice(endpoint_slice(addressType="IPv6"), "here") == []
    assert peers_of_slice(endpoint_slice(metadata={"name": "hand-made"}), "here") == []


def test_names_lead_to_the_service_that_a_peer_is_behind_and_to_no_other() -> None:
    pod = PodSpec({"metadata": {"name": "me", "namespace": "ns", "uid": "u"}, "spec": {"hostname": "me"}})
    services = [
        {"metadata": {"name": name, "namespace": "ns"}, "spec": {"selector": {"job": "j"}}} for name in ("gang", "web")
    ]
    text = hosts_file(pod, "10.0.0.7", services, peers_of_slice(endpoint_slice(), "here"))
    assert "10.1.0.1\tw-0.gang w-0.gang.ns w-0.gang.ns.svc w-0.gang.ns.svc.cluster.local gang " in text
    assert "10.1.0.2" not in text
    assert " web" not in text


def test_without_a_network_pods_have_the_machines_address() -> None:
    addresses = Addresses("", "10.0.0.7")
    addresses.claim("old", "127.66.0.1")
    assert [addresses.take("a"), addresses.take("b"), addresses.take("a")] == ["10.0.0.7"] * 3
    addresses.give_back("a")
