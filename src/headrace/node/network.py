"""Pod addresses and names: one address of 127.0.0.0/8 a pod, and /etc/hosts instead of a name server.

Every address of 127.0.0.0/8 reaches this machine without any set-up, so a pod gets one of its own for the asking.
Names are files: a pod's /etc/hosts holds itself, its aliases, the Services of its namespace with the pods behind them
(there is no cluster address that something would have to forward), and what this machine's own file says. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace.errors import QuotaExceeded
from headrace.node.podspec import PodSpec
from headrace.spec.kind import Json
from headrace.spec.selectors import matches_labels

DOMAIN = "cluster.local"
_LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class Addresses:
    """The addresses of one node's pods. Nodes of one machine need networks that do not overlap.

    Args:
        network: empty gives every pod `machine`.
        machine: the node's own address.
    """

    def __init__(self, network: str, machine: str = "") -> None:
        self._network = ipaddress.IPv4Network(network) if network else None
        self._machine = machine
        self._taken: dict[str, str] = {}
        self._next = 1

    def claim(self, uid: str, address: str) -> None:
        """Note that a pod has had `address` since before this agent was started."""
        self._taken[address] = uid

    def take(self, uid: str) -> str:
        """Return the pod's address, a new one for a new pod. An address given back is used again as late as possible.

        Raises:
            QuotaExceeded: every address of the network is taken.
        """
        if self._network is None:
            return self._machine
        for address, owner in self._taken.items():
            if owner == uid:
                return address
        last = self._network.num_addresses - 2
        for _ in range(last):
            address = str(self._network[self._next])
            self._next = self._next % last + 1
            if address not in self._taken:
                self._taken[address] = uid
                return address
        raise QuotaExceeded(f"All {last} pod addresses of {self._network} are taken.", hint="Delete pods that ended.")

    def give_back(self, uid: str) -> None:
        """Forget a pod that is gone. Idempotent."""
        self._taken = {address: owner for address, owner in self._taken.items() if owner != uid}


@dataclass(frozen=True)
class Peer:
    """A pod as others find it by name."""

    address: str
    hostname: str
    subdomain: str
    labels: Mapping[str, str]
    is_ready: bool
    uid: str = ""
    service: str = ""
    """The Service it is known to be behind, where its labels are not known."""

    @staticmethod
    def of(raw: Json) -> Peer | None:
        """Read a pod; None for one that has no address or has ended."""
        pod = PodSpec(raw)
        address = str(pod.status.get("podIP") or "")
        if not address or pod.is_terminal:
            return None
        conditions = pod.status.get("conditions") or []
        is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        return Peer(
            address=address,
            hostname=str(pod.spec.get("hostname") or ""),
            subdomain=pod.subdomain,
            labels=pod.meta.get("labels") or {},
            is_ready=is_ready,
            uid=pod.uid,
        )


def fqdn(pod: PodSpec) -> str:
    """Return the pod's full name when it has a subdomain, else its host name."""
    return f"{pod.hostname}.{pod.subdomain}.{pod.namespace}.svc.{DOMAIN}" if pod.subdomain else pod.hostname


def world_hostname(pod: PodSpec) -> str:
    """Return what `hostname` prints in the pod's containers."""
    return fqdn(pod)[:64] if pod.spec.get("setHostnameAsFQDN") else pod.hostname


def hosts_file(
    pod: PodSpec, address: str, services: Sequence[Json], peers: Iterable[Peer], machine_hosts: str = ""
) -> str:
    """Return the text of the pod's /etc/hosts.

    Args:
        services: raw Services of the pod's namespace.
        peers: pods of the namespace, on whatever node.
        machine_hosts: this machine's own file, whose names stay known because pods share the machine's network.
    """
    own = f"{fqdn(pod)}\t{pod.hostname}" if pod.subdomain else pod.hostname
    parts = ["# Kubernetes-managed hosts file.\n", _LOCALHOST, f"{address}\t{own}\n"]
    aliases = pod.spec.get("hostAliases") or []
    if aliases:
        parts.append("\n# Entries added by HostAliases.\n")
        parts += ["\t".join([str(alias["ip"]), *(alias.get("hostnames") or [])]) + "\n" for alias in aliases]
    named = _service_lines(services, list(peers), pod.namespace)
    if named:
        parts += [f"\n# Services of namespace {pod.namespace}.\n", *named]
    machine = [line for line in machine_hosts.splitlines() if _is_foreign(line)]
    if machine:
        parts += ["\n# This machine's own names.\n", *(f"{line}\n" for line in machine)]
    return "".join(parts)


def _service_lines(services: Sequence[Json], peers: list[Peer], namespace: str) -> list[str]:
    lines: list[str] = []
    for service in sorted(services, key=lambda raw: str(raw["metadata"].get("name"))):
        name, spec = str(service["metadata"]["name"]), service.get("spec") or {}
        selector = spec.get("selector") or {}
        if not selector:
            continue
        names = _names(name, namespace)
        for peer in sorted(peers, key=lambda p: (p.hostname, p.address)):
            if peer.service != name if peer.service else not matches_labels(selector, peer.labels):
                continue
            if not (peer.is_ready or spec.get("publishNotReadyAddresses")):
                continue
            own = [f"{peer.hostname}.{n}" for n in names] if peer.hostname and peer.subdomain == name else []
            lines.append(f"{peer.address}\t{' '.join([*own, *names])}\n")
    return lines


def _names(service: str, namespace: str) -> list[str]:
    return [service, f"{service}.{namespace}", f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.{DOMAIN}"]


def _is_foreign(line: str) -> bool:
    """Whether a line of the machine's file names another machine."""
    words = line.split("#")[0].split()
    try:
        return len(words) > 1 and not ipaddress.ip_address(words[0].partition("%")[0]).is_loopback
    except ValueError:
        return False


def resolv_conf(pod: PodSpec, machine_text: str) -> str | None:
    """Return the text of the pod's /etc/resolv.conf; None leaves this machine's own in place."""
    config: Json = pod.spec.get("dnsConfig") or {}
    if pod.spec.get("dnsPolicy") != "None" and not config:
        return None
    lines = [] if pod.spec.get("dnsPolicy") == "None" else machine_text.splitlines()
    lines += [f"nameserver {server}" for server in config.get("nameservers") or []]
    if config.get("searches"):
        lines.append(f"search {' '.join(config['searches'])}")
    options = [f"{o['name']}:{o['value']}" if o.get("value") else str(o["name"]) for o in config.get("options") or []]
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def service_variables(pod: PodSpec, services: Iterable[Json]) -> dict[str, str]:
    """Return the variables of Services that have a cluster address, as kubelet sets them.

    `services` are those of the pod's namespace and `default/kubernetes`, which every pod gets whatever
    `enableServiceLinks` says.
    """
    variables: dict[str, str] = {}
    for service in services:
        meta, spec = service["metadata"], service.get("spec") or {}
        is_api = (meta.get("namespace"), meta.get("name")) == ("default", "kubernetes")
        is_linked = meta.get("namespace") == pod.namespace and pod.spec.get("enableServiceLinks") is not False
        address = spec.get("clusterIP")
        if address and address != "None" and (is_api or is_linked):
            variables |= _variables(str(meta["name"]).upper().replace("-", "_"), str(address), spec.get("ports") or [])
    return variables


def _variables(prefix: str, address: str, ports: Sequence[Json]) -> dict[str, str]:
    result = {f"{prefix}_SERVICE_HOST": address}
    if ports:
        first = ports[0]
        result[f"{prefix}_SERVICE_PORT"] = str(first["port"])
        result[f"{prefix}_PORT"] = f"{str(first.get('protocol') or 'TCP').lower()}://{address}:{first['port']}"
    for port in ports:
        protocol, number = str(port.get("protocol") or "TCP"), str(port["port"])
        if port.get("name"):
            result[f"{prefix}_SERVICE_PORT_{str(port['name']).upper().replace('-', '_')}"] = number
        stem = f"{prefix}_PORT_{number}_{protocol.upper()}"
        result |= {
            stem: f"{protocol.lower()}://{address}:{number}",
            f"{stem}_PROTO": protocol.lower(),
            f"{stem}_PORT": number,
            f"{stem}_ADDR": address,
        }
    return result
