"""A pod's logs and commands: authorised and admitted by the pipeline, then carried to and from its node's agent."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from headrace.engine.facade import answers
from headrace.engine.facade.node_proxy import NodeProxy
from headrace.engine.facade.pod_ports import PodPorts
from headrace.engine.facade.relay import refuse_socket, relay
from headrace.engine.facade.target import Target
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.refusals import BadRequest, MethodNotAllowed
from headrace.engine.pipeline.request import Request, User
from headrace.engine.pipeline.status import from_error
from headrace.errors import HeadraceError, Unsupported
from headrace.spec.kind import Json
from headrace.spec.kinds import POD

CONNECTED = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Subresources of pods that are streams and not objects."""

_ERROR_CHANNEL = b"\x03"
_LOG_OPTIONS = ("previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")
_SUBPROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_ABSENT = {
    "attach": Unsupported("Attaching to a running container is not served here.", hint="Use `kubectl logs -f`."),
    "proxy": Unsupported("Proxying to pods is not served here.", hint="Ask the pod at its own address."),
}


class PodStreams:
    """Serves `pods/log`, `pods/exec` and `pods/portforward`, and says what is not served.

    Args:
        proxy: the way to the agents; None where no node has one.
    """

    def __init__(self, pipeline: Pipeline, proxy: NodeProxy | None) -> None:
        self._pipeline = pipeline
        self._proxy = proxy
        self._ports = PodPorts(pipeline, proxy)

    async def serve(self, http: HttpRequest, target: Target, user: User) -> Response:
        """Answer an ordinary request: a log, or why a command or a port needs a WebSocket."""
        if target.subresource == "portforward":
            await self._ports.refuse(http, target, user)
        if target.subresource != "log":
            # kubectl tries SPDY when the WebSocket was refused, and prints only this answer.
            await self._connected(target, user, _exec_options(http.query_params.multi_items()))
            raise BadRequest(
                "Commands are run over WebSocket here, not over SPDY.",
                hint="Use kubectl 1.31 or newer, or unset KUBECTL_REMOTE_COMMAND_WEBSOCKETS.",
            )
        if http.method != "GET":
            raise MethodNotAllowed(f"{http.method} is not possible for a log.", hint="GET it.")
        query = http.query_params
        pod, container, proxy = await self._connected(target, user, {"container": query.get("container", "")})
        if not (pod.get("spec") or {}).get("nodeName"):
            return Response(media_type="text/plain")  # as a real API server: there is no log yet, and that is no error
        options = [(key, query[key]) for key in _LOG_OPTIONS if query.get(key)]
        return _LogResponse(proxy, pod, container, options, follow=query.get("follow", "").lower() in {"true", "1"})

    async def serve_socket(self, socket: WebSocket, target: Target, user: User) -> None:
        """Carry a command's streams, or ports, until either side ends; refuses with a Status before the handshake."""
        if target.subresource == "portforward":
            await self._ports.serve_socket(socket, target, user)
            return
        options = _exec_options(socket.query_params.multi_items())
        offered = [name for name in socket.scope.get("subprotocols", ()) if name in _SUBPROTOCOLS]
        try:
            pod, container, proxy = await self._connected(target, user, options)
            if not offered:
                raise BadRequest("Commands need a subprotocol.", hint=f"Offer one of {', '.join(_SUBPROTOCOLS)}.")
            if not options["command"]:
                raise BadRequest("There is no command.", hint="Give it after `--`, such as `kubectl exec POD -- date`.")
        except HeadraceError as error:
            await refuse_socket(socket, error)
            return
        streams = {name: options[name] for name in ("stdin", "stdout", "stderr", "tty")}
        try:
            async with proxy.exec(pod, container, options["command"], subprotocols=offered, **streams) as node:
                await socket.accept(node.subprotocol or offered[0])
                await relay(socket, node)
        except HeadraceError as error:
            # As a real API server does: what comes from the node is told on the error channel, because kubectl takes
            # a refused handshake for a server without WebSocket and tries SPDY, whose answer hides this one.
            await _tell(socket, offered[0], error)

    async def _connected(self, target: Target, user: User, options: Json) -> tuple[Json, str, NodeProxy]:
        if target.subresource in _ABSENT:
            raise _ABSENT[target.subresource]
        request = Request(
            verb="get" if target.subresource == "log" else "create",
            kind=POD,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
        )
        pod = await self._pipeline.connect(user, request, options)
        container = choose_container(pod, options.get("container", ""))
        if self._proxy is None:
            raise Unsupported("This server reaches no node's agent.", hint="Start it with `headrace up`.")
        return pod, container, self._proxy


def choose_container(pod: Json, asked: str) -> str:
    """Return which container is meant; raises BadRequest with the names there are."""
    spec = pod.get("spec") or {}
    name = pod["metadata"]["name"]
    own = [container["name"] for container in spec.get("containers") or ()]
    init = [container["name"] for container in spec.get("initContainers") or ()]
    if asked:
        if asked not in {*own, *init}:
            raise BadRequest(
                f"container {asked} is not valid for pod {name}", hint=f"It has {', '.join([*own, *init])}."
            )
        return asked
    if len(own) != 1:
        also = f" or one of the init containers: [{' '.join(init)}]" if init else ""
        raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{' '.join(own)}]{also}")
    return str(own[0])


async def _tell(socket: WebSocket, subprotocol: str, error: HeadraceError) -> None:
    if socket.application_state is WebSocketState.CONNECTING:
        await socket.accept(subprotocol)
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.send_bytes(_ERROR_CHANNEL + msgspec.json.encode(from_error(error)))
        await socket.close()


class _LogResponse(Response):
    """Opens the log when the server is ready to answer, so that the agent's refusal can still be the answer."""

    def __init__(
        self, proxy: NodeProxy, pod: Json, container: str, options: list[tuple[str, str]], *, follow: bool
    ) -> None:
        super().__init__()
        self._open = partial(proxy.logs, pod, container, options, follow=follow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False
        try:
            async with self._open() as chunks:
                has_begun = True
                await StreamingResponse(chunks, media_type="text/plain")(scope, receive, send)
        except HeadraceError as error:
            if has_begun:
                # The status line is sent; breaking off is the only way left to say that the log is not whole.
                raise
            await answers.refuse(error)(scope, receive, send)


def _exec_options(items: list[tuple[str, str]]) -> Json:
    flags = {key: value.lower() in {"true", "1"} for key, value in items if key in {"stdin", "stdout", "stderr", "tty"}}
    return {
        "container": next((value for key, value in items if key == "container"), ""),
        "command": [value for key, value in items if key == "command"],
        "stdin": False,
        "stdout": False,
        "stderr": False,
        "tty": False,
        **flags,
    }
