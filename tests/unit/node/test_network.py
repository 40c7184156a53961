"""Addresses and names of pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.errors import QuotaExceeded
from headrace.node.network import Addresses, Peer, hosts_file, resolv_conf, service_variables, world_hostname
from headrace.node.podspec import PodSpec

MakePod = Callable[..., dict[str, Any]]


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}


def peer(index: int, *, ready: bool = True, **labels: str) -> Peer:
    return Peer(f"127.64.0.{index}", f"w-{index}", "gang", labels or {"job": "j"}, ready)


def test_addresses_do_not_clash_and_come_back_late() -> None:
    pool = Addresses("127.64.0.0/29")
    pool.claim("old", "127.64.0.2")
    taken = [pool.take(f"u{n}") for n in range(5)]
    assert taken == ["127.64.0.1", "127.64.0.3", "127.64.0.4", "127.64.0.5", "127.64.0.6"]
    assert pool.take("u0") == "127.64.0.1"
    with pytest.raises(QuotaExceeded):
        pool.take("more")
    pool.give_back("u1")
    assert pool.take("more") == "127.64.0.3"


def test_a_gang_finds_its_members_by_name(make_pod: MakePod) -> None:
    pod = PodSpec(make_pod("app", hostname="w-1", subdomain="gang"))
    services = [service("gang", clusterIP="None", selector={"job": "j"}, publishNotReadyAddresses=True)]
    text = hosts_file(pod, "127.64.0.1", services, [peer(2, ready=False), peer(1)])
    assert "127.64.0.1\tw-1.gang.ns.svc.cluster.local\tw-1\n" in text
    line = next(line for line in text.splitlines() if line.startswith("127.64.0.2"))
    names = line.split("\t")[1].split()
    assert names[:4] == ["w-2.gang", "w-2.gang.ns", "w-2.gang.ns.svc", "w-2.gang.ns.svc.cluster.local"]
    assert names[4:] == ["gang", "gang.ns", "gang.ns.svc", "gang.ns.svc.cluster.local"]


def test_only_ready_and_selected_pods_stand_behind_a_service(make_pod: MakePod) -> None:
    services = [service("web", selector={"app": "web"}), service("manual")]
    peers = [peer(3, app="web"), peer(4, ready=False, app="web"), peer(5, app="db")]
    text = hosts_file(PodSpec(make_pod("app")), "127.64.0.1", services, peers)
    assert "127.64.0.3\tweb web.ns web.ns.svc web.ns.svc.cluster.local\n" in text
    assert "127.64.0.4" not in text
    assert "127.64.0.5" not in text
    assert "manual" not in text


def test_aliases_and_the_machines_own_names(make_pod: MakePod) -> None:
    pod = PodSpec(make_pod("app", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]))
    machine = "127.0.0.1 localhost\n127.0.1.1 me\n# no\n10.1.1.1 nas nas.lab # storage\nfe80::1%lo0 x\nrubbish\n"
    text = hosts_file(pod, "127.64.0.1", [], [], machine)
    assert "1.2.3.4\ta\tb\n" in text
    assert "10.1.1.1 nas nas.lab # storage\n" in text
    assert "fe80::1%lo0 x\n" in text
    assert "127.0.1.1" not in text
    assert "rubbish" not in text


def test_a_peer_is_a_living_pod_with_an_address(make_pod: MakePod) -> None:
    raw = make_pod("app", hostname="w-0", subdomain="gang")
    assert Peer.of(raw) is None
    raw["status"] = {"podIP": "127.64.0.7", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert Peer.of(raw) == Peer("127.64.0.7", "w-0", "gang", {}, True, "uid-1")
    raw["status"]["phase"] = "Failed"
    assert Peer.of(raw) is None


def test_service_variables(make_pod: MakePod) -> None:
    api = {
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 443, "name": "https"}]},
    }
    db = service("my-db", clusterIP="10.0.0.2", ports=[{"port": 5432}])
    headless = service("gang", clusterIP="None", ports=[{"port": 1}])
    linked = service_variables(PodSpec(make_pod("app")), [api, db, headless])
    assert linked["KUBERNETES_SERVICE_HOST"] == "10.0.0.1"
    assert linked["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert linked["MY_DB_SERVICE_PORT"] == "5432"
    assert linked["MY_DB_PORT_5432_TCP"] == "tcp://10.0.0.2:5432"
    assert not any(name.startswith("GANG") for name in linked)
    alone = service_variables(PodSpec(make_pod("app", enableServiceLinks=False)), [api, db])
    assert "MY_DB_SERVICE_HOST" not in alone
    assert "KUBERNETES_SERVICE_HOST" in alone


def test_resolv_conf(make_pod: MakePod) -> None:
    assert resolv_conf(PodSpec(make_pod("app")), "nameserver 1.1.1.1\n") is None
    config = {"nameservers": ["9.9.9.9"], "searches": ["lab"], "options": [{"name": "ndots", "value": "2"}]}
    own = PodSpec(make_pod("app", dnsPolicy="None", dnsConfig=config))
    assert resolv_conf(own, "nameserver 1.1.1.1\n") == "nameserver 9.9.9.9\nsearch lab\noptions ndots:2\n"
    added = PodSpec(make_pod("app", dnsConfig={"searches": ["lab"]}))
    assert resolv_conf(added, "nameserver 1.1.1.1\n") == "nameserver 1.1.1.1\nsearch lab\n"


def test_host_names(make_pod: MakePod) -> None:
    pod = PodSpec(make_pod("app", hostname="w-1", subdomain="gang", setHostnameAsFQDN=True))
    assert world_hostname(pod) == "w-1.gang.ns.svc.cluster.local"
    assert world_hostname(PodSpec(make_pod("app"))) == "p"
