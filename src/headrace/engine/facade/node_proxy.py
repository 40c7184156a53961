"""The way to a pod's logs, commands and ports, and to what its node uses: the node's agent, over HTTPS, at the kubelet's own URLs.

The agent is where the Node object says (`status.addresses`, `status.daemonEndpoints.kubeletEndpoint`); it is proved by
our authority, and the façade proves itself with a client certificate of the same. Shapes of the URLs:
Kubernetes `pkg/kubelet/server/server.go` and `pkg/registry/core/pod/strategy.go`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import httpx2

from headrace.engine.facade.node_socket import CONNECT_DEADLINE_S, NodeSocket, connect, unreachable
from headrace.engine.facade.refusals import AgentRefused
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pki import Certificate
from headrace.errors import Unavailable
from headrace.spec.kind import Json

FindNode = Callable[[str], Awaitable[Json]]
"""Returns a Node object by name; raises NotFound."""

_ADDRESS_TYPES = ("InternalIP", "Hostname", "InternalDNS", "ExternalIP", "ExternalDNS")
# A log that is not followed comes in one go; one that is followed may be silent for as long as its container is.
_READ_DEADLINE_S = 30.0
_ERROR_LIMIT_BYTES = 50 * 1024


class Agent(NamedTuple):
    """Where a node's agent listens."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NodeProxy:
    """Opens logs, exec streams and ports on nodes' agents, and asks what they use.

    Args:
        authority: PEM file of the authority that signed the agents' certificates.
        certificate: the façade's client certificate.
        find_node: reads Node objects.
    """

    def __init__(self, *, authority: Path, certificate: Certificate, find_node: FindNode) -> None:
        self._find_node = find_node
        self._tls = ssl.create_default_context(cafile=authority)
        self._tls.load_cert_chain(certificate.certificate, certificate.key)

    async def agent_of(self, pod: Json) -> Agent:
        """Return where the agent of the pod's node listens; raises BadRequest for a pod that has no node yet."""
        name = pod["metadata"]["name"]
        node_name = (pod.get("spec") or {}).get("nodeName")
        if not node_name:
            raise BadRequest(f"pod {name} does not have a host assigned", hint="It has not been scheduled yet.")
        return await self._agent(node_name)

    async def _agent(self, node_name: str) -> Agent:
        status = (await self._find_node(node_name)).get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        addresses = {a.get("type"): a.get("address") for a in reversed(status.get("addresses") or [])}
        host = next((addresses[type_name] for type_name in _ADDRESS_TYPES if addresses.get(type_name)), None)
        if not host or not port:
            raise Unavailable(
                f"Node {node_name} says no address of its agent.", hint="Wait until its agent has registered it."
            )
        return Agent(host, int(port))

    async def usage(self, node_name: str) -> str:
        """Return what a node says it uses, in Prometheus' text format.

        Raises NotFound, AgentRefused with the agent's sentence, Unavailable when it cannot be reached.
        """
        agent = await self._agent(node_name)
        timeout = httpx2.Timeout(_READ_DEADLINE_S, connect=CONNECT_DEADLINE_S)
        try:
            async with httpx2.AsyncClient(verify=self._tls, timeout=timeout, trust_env=False) as client:
                response = await client.get(f"https://{agent.authority}/metrics/resource")
        except httpx2.TransportError as error:
            raise unreachable(agent.host, agent.port, error) from error
        if response.status_code != 200:
            raise AgentRefused(response.status_code, response.content[:_ERROR_LIMIT_BYTES])
        return response.text

    @asynccontextmanager
    async def logs(
        self, pod: Json, container: str, options: Iterable[tuple[str, str]], *, follow: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a container's log; the iterator ends with the log.

        Args:
            options: the kubelet's query parameters, which are those of `pods/log`, without `container` and `follow`.

        Raises AgentRefused with the agent's sentence, Unavailable when it cannot be reached.
        """
        agent = await self.agent_of(pod)
        query = urlencode([*options, *([("follow", "true")] if follow else [])])
        timeout = httpx2.Timeout(_READ_DEADLINE_S, connect=CONNECT_DEADLINE_S)
        if follow:
            timeout.read = None
        url = f"https://{agent.authority}{_path('containerLogs', pod, container)}?{query}"
        try:
            async with httpx2.AsyncClient(verify=self._tls, timeout=timeout, trust_env=False) as client:
                async with client.stream("GET", url) as response:
                    if response.status_code != 200:
                        raise AgentRefused(response.status_code, (await response.aread())[:_ERROR_LIMIT_BYTES])
                    yield response.aiter_raw()
        except httpx2.TransportError as error:
            raise unreachable(agent.host, agent.port, error) from error

    @asynccontextmanager
    async def exec(
        self,
        pod: Json,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        subprotocols: Sequence[str] = ("v5.channel.k8s.io", "v4.channel.k8s.io"),
    ) -> AsyncIterator[NodeSocket]:
        """Start a command in a running container; channels are those of `v5.channel.k8s.io`.

        Raises AgentRefused with the agent's sentence, Unavailable when it cannot be reached.
        """
        agent = await self.agent_of(pod)
        flags = {"input": stdin, "output": stdout, "error": stderr, "tty": tty}
        query = urlencode([*(("command", word) for word in command), *((key, "1") for key in flags if flags[key])])
        url = f"wss://{agent.authority}{_path('exec', pod, container)}?{query}"
        async with connect(url, host=agent.host, port=agent.port, tls=self._tls, subprotocols=subprotocols) as socket:
            yield socket

    @asynccontextmanager
    async def forward(
        self, pod: Json, ports: Iterable[int], *, subprotocols: Sequence[str]
    ) -> AsyncIterator[NodeSocket]:
        """Open a WebSocket to a pod's ports; what it carries is between the client and the agent.

        Args:
            ports: of the subprotocols that need to know them from the start.

        Raises AgentRefused with the agent's sentence, Unavailable when it cannot be reached.
        """
        agent = await self.agent_of(pod)
        query = urlencode([("port", str(port)) for port in ports])
        url = f"wss://{agent.authority}{_path('portForward', pod)}{'?' if query else ''}{query}"
        async with connect(url, host=agent.host, port=agent.port, tls=self._tls, subprotocols=subprotocols) as socket:
            yield socket


def _path(what: str, pod: Json, *more: str) -> str:
    meta = pod["metadata"]
    return "/".join(["", what, *(quote(part, safe="") for part in (meta["namespace"], meta["name"], *more))])
