"""Who may connect to our pods. Outwards nothing is restricted: no policy can name an API server or a database.

The API server is no pod and its address differs, so the two ports that it calls are open to all; what they take, TLS
decides: the aggregated API demands the front proxy's certificate, and the webhooks answer questions and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.install.installation import Installation
from headrace.install.names import ADMISSION, CODE_PORT, CONTROLLER
from headrace.install.workloads import HOOKS_PORT, MONITORING_PORT, READS_PORT, selector
from headrace.spec.kind import Json
from headrace.spec.names import PROJECT_LABEL


def network_policies(installation: Installation) -> list[Json]:
    """Return what lets nobody in but those who have to do with each part."""
    home = installation.namespace
    anybody: list[Json] = []
    any_pod: list[Json] = [{"namespaceSelector": {}}]
    projects = [{"namespaceSelector": {"matchExpressions": [{"key": PROJECT_LABEL, "operator": "Exists"}]}}]
    found = [
        _policy("headrace-closed", home, {}, []),
        _policy(
            CONTROLLER,
            home,
            selector(CONTROLLER),
            [_from(anybody, READS_PORT), _from(projects, CODE_PORT), _from(any_pod, MONITORING_PORT)],
        ),
        _policy(ADMISSION, home, selector(ADMISSION), [_from(anybody, HOOKS_PORT), _from(any_pod, MONITORING_PORT)]),
    ]
    # The volume driver listens on sockets of its node's file system only.
    return [*found, _policy("headrace-closed", installation.node_namespace, {}, [])] if installation.nodes else found


def _from(peers: Sequence[Json], port: int) -> Json:
    ports = [{"protocol": "TCP", "port": port}]
    return {"from": list(peers), "ports": ports} if peers else {"ports": ports}


def _policy(name: str, namespace: str, labels: dict[str, str], ingress: Sequence[Json]) -> Json:
    spec: Json = {"podSelector": {"matchLabels": labels} if labels else {}, "policyTypes": ["Ingress"]}
    if ingress:
        spec["ingress"] = list(ingress)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
