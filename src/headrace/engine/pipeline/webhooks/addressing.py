"""Where a webhook is: a URL, or a Service of this server resolved to one of the pods behind it.

There are no cluster addresses that something would forward, so a Service leads to a pod that is ready, as the names in
pods' hosts files do. Sentences as of Kubernetes' `pkg/kubeapiserver`-side resolvers (apiserver `pkg/util/proxy/proxy.go`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from headrace.engine.store.store import Key, Store
from headrace.spec.core.webhooks import ServiceReference, WebhookClientConfig
from headrace.spec.kind import Json
from headrace.spec.kinds import POD, SERVICE
from headrace.spec.selectors import matches_labels


class Nowhere(Exception):
    """A Service leads to nobody: the URL that would have been asked, and why not."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(why)
        self.url = url


class Place(NamedTuple):
    """Where to connect, and as what.

    Args:
        url: as people know it, without a query.
        host, port: where to connect to.
        server_name: what the certificate must be good for.
    """

    url: str
    host: str
    port: int
    server_name: str

    @property
    def target(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Addresses:
    """Finds webhooks; Services and pods are read from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, client: WebhookClientConfig) -> Place:
        """Return where a webhook is; raises Nowhere."""
        if client.service is not None:
            return self._service(client.service)
        url = urlsplit(client.url or "")
        host = url.hostname or ""
        return Place(str(client.url), host, url.port or 443, host)

    def _service(self, reference: ServiceReference) -> Place:
        namespace, name, port = reference.namespace, reference.name, reference.port
        server_name = f"{name}.{namespace}.svc"
        url = f"https://{server_name}:{port}{reference.path or ''}"
        stored = self._store.get(Key(SERVICE.resource, namespace, name))
        if stored is None:
            raise Nowhere(url, f'service "{name}" not found')
        spec: Json = stored.raw.get("spec") or {}
        given = next((one for one in spec.get("ports") or () if one.get("port") == port), None)
        if spec.get("type") == "ExternalName":
            return Place(url, str(spec.get("externalName")), port, server_name)
        if given is None:
            raise Nowhere(url, f'no service port {port} found for service "{name}"')
        pods = self._store.page(POD.resource, namespace=namespace).items
        found = endpoints(spec.get("selector") or {}, given.get("targetPort", port), pods)
        if not found:
            raise Nowhere(url, f'no endpoints available for service "{name}"')
        host, target = random.choice(found)  # noqa: S311 load balancing needs no secrecy
        return Place(url, host, target, server_name)


def endpoints(selector: Json, target: int | str, pods: Iterable[Json]) -> Sequence[tuple[str, int]]:
    """Return address and port of each ready pod behind a Service; a port's name means what each pod says. Pure."""
    found = []
    for pod in pods:
        status = pod.get("status") or {}
        is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
        is_selected = bool(selector) and matches_labels(selector, pod["metadata"].get("labels") or {})
        port = _port(pod, target)
        if is_selected and is_ready and status.get("podIP") and port:
            found.append((str(status["podIP"]), port))
    return found


def _port(pod: Json, target: int | str) -> int:
    if isinstance(target, int):
        return target
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    return 0
