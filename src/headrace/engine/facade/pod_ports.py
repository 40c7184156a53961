"""A pod's ports: authorised and admitted by the pipeline, then a WebSocket to its node's agent, which speaks the rest.

As a real API server does with a kubelet that takes WebSockets: neither SPDY frames nor channels are read here.
Source: Kubernetes `pkg/registry/core/pod/rest/subresources.go` (PortForwardREST), `pkg/registry/core/pod/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request as HttpRequest
from starlette.websockets import WebSocket

from headrace.engine.facade.node_proxy import NodeProxy
from headrace.engine.facade.relay import refuse_socket, relay
from headrace.engine.facade.target import Target
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.request import Request, User, Verb
from headrace.errors import HeadraceError, Unsupported
from headrace.spec.kind import Json
from headrace.spec.kinds import POD

TUNNEL = "SPDY/3.1+portforward.k8s.io"
SUBPROTOCOLS = (TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io")


class PodPorts:
    """Serves `pods/portforward`.

    Args:
        proxy: the way to the agents; None where no node has one.
    """

    def __init__(self, pipeline: Pipeline, proxy: NodeProxy | None) -> None:
        self._pipeline = pipeline
        self._proxy = proxy

    async def serve_socket(self, socket: WebSocket, target: Target, user: User) -> None:
        """Carry one client's connections until either side ends; refuses with a Status before the handshake."""
        offered = socket.scope.get("subprotocols", ())
        known = [name for name in offered if name in SUBPROTOCOLS]
        try:
            ports = _ports(socket.query_params.getlist("ports"))
            pod, proxy = await self._connected(target, user, "get", ports)
            if offered and not known:
                raise BadRequest("The subprotocol is not known.", hint=f"Offer one of {', '.join(SUBPROTOCOLS)}.")
            async with proxy.forward(pod, ports, subprotocols=known) as node:
                await socket.accept(node.subprotocol or None)
                await relay(socket, node)
        except HeadraceError as error:
            await refuse_socket(socket, error)

    async def refuse(self, http: HttpRequest, target: Target, user: User) -> None:
        """Raise why there is no plain answer.

        kubectl asks for SPDY when its WebSocket was refused, and prints only what it hears then: so that is what kept
        the WebSocket from being opened, where something did.
        """
        ports = _ports(http.query_params.getlist("ports"))
        pod, proxy = await self._connected(target, user, "get" if http.method == "GET" else "create", ports)
        async with proxy.forward(pod, ports, subprotocols=[TUNNEL]):
            raise BadRequest(
                "Ports are forwarded over WebSocket here, not over SPDY.",
                hint="Use kubectl 1.31 or newer, or unset KUBECTL_PORT_FORWARD_WEBSOCKETS.",
            )

    async def _connected(self, target: Target, user: User, verb: Verb, ports: Sequence[int]) -> tuple[Json, NodeProxy]:
        request = Request(
            verb=verb, kind=POD, namespace=target.namespace, name=target.name, subresource=target.subresource
        )
        pod = await self._pipeline.connect(user, request, {"ports": list(ports)} if ports else {})
        if self._proxy is None:
            raise Unsupported("This server reaches no node's agent.", hint="Start it with `headrace up`.")
        return pod, self._proxy


def _ports(texts: Sequence[str]) -> list[int]:
    """Return the ports of `?ports=80&ports=81,82`; raises BadRequest."""
    parts = [part for text in texts for part in text.split(",")]
    for part in parts:
        is_number = part.isascii() and part.isdecimal()
        if not is_number or int(part) > 65535:
            why = "value out of range" if is_number else "invalid syntax"
            raise BadRequest(f'cannot convert to []int32: strconv.ParseUint: parsing "{part}": {why}')
    return [int(part) for part in parts]
