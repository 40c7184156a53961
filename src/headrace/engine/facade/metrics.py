"""`metrics.k8s.io/v1beta1`, what `kubectl top` asks: what nodes and pods use now.

Nothing is measured while nobody asks. A request looks at the counters of every node and takes the mean since the last
look; where there was none, or one too long ago to speak of now, it looks twice with a second in between, so the first
answer takes that second and is as true as the next. A node that cannot be reached is left out, with its pods.
On a real cluster metrics-server does this, from the same figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from headrace.engine.facade import answers, measured, media
from headrace.engine.facade.discovery import Row
from headrace.engine.facade.measured import API_VERSION, GROUP, VERSION, Key, Look, Usage
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import SYSTEM, Request
from headrace.errors import HeadraceError, NotFound, Unavailable, Unsupported
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import NODE, POD
from headrace.telemetry import logger

NODE_NOT_MEASURED = "metrics.node_not_measured"

_LEAST_WINDOW_S, _MOST_WINDOW_S = 1.0, 90.0
_BASE = f"/apis/{API_VERSION}"
_VERBS = ("get", "list")

ROWS = (
    Row(GROUP, VERSION, "nodes", "", (GROUP, VERSION, "NodeMetrics"), False, _VERBS),
    Row(GROUP, VERSION, "pods", "", (GROUP, VERSION, "PodMetrics"), True, _VERBS),
)
"""What discovery tells."""

_log = logger(component="metrics")

AskNode = Callable[[str], Awaitable[str]]
"""Returns the text of a node's `/metrics/resource`; raises Unavailable, or what its agent refuses with."""


class Metrics:
    """Answers who asks for NodeMetrics and PodMetrics."""

    def __init__(self, pipeline: Pipeline, ask: AskNode) -> None:
        self._pipeline = pipeline
        self._nodes: defaultdict[str, _Node] = defaultdict(lambda: _Node(ask))

    def routes(self) -> list[Route]:
        """Return the routes, whose callers have been authorised."""
        return [
            Route(f"{_BASE}/nodes", self._list_nodes),
            Route(f"{_BASE}/nodes/{{name}}", self._get_node),
            Route(f"{_BASE}/pods", self._list_pods),
            Route(f"{_BASE}/namespaces/{{namespace}}/pods", self._list_pods),
            Route(f"{_BASE}/namespaces/{{namespace}}/pods/{{name}}", self._get_pod),
        ]

    async def _list_nodes(self, http: HttpRequest) -> Response:
        nodes = await self._listed(http, NODE)
        used = await self._measure([node["metadata"]["name"] for node in nodes])
        return _answer(http, _list("NodeMetricsList", [found for node in nodes if (found := _of_node(node, used))]))

    async def _get_node(self, http: HttpRequest) -> Response:
        name = http.path_params["name"]
        node = await self._read(NODE, "", name)
        found = _of_node(node, {name: await self._nodes[name].measure(name)})
        return _answer(http, found or _nothing_yet("nodemetrics", name))

    async def _list_pods(self, http: HttpRequest) -> Response:
        pods = await self._listed(http, POD, http.path_params.get("namespace", ""))
        used = await self._measure(sorted({node for pod in pods if (node := _node_of(pod))}))
        return _answer(http, _list("PodMetricsList", [found for pod in pods if (found := _of_pod(pod, used))]))

    async def _get_pod(self, http: HttpRequest) -> Response:
        namespace, name = http.path_params["namespace"], http.path_params["name"]
        pod = await self._read(POD, namespace, name)
        node = _node_of(pod)
        found = _of_pod(pod, {node: await self._nodes[node].measure(node)}) if node else None
        return _answer(http, found or _nothing_yet("podmetrics", f"{namespace}/{name}"))

    async def _listed(self, http: HttpRequest, kind: Kind[Any], namespace: str = "") -> list[Json]:
        query = http.query_params
        if query.get("watch", "").lower() in {"true", "1"}:
            raise Unsupported("Metrics cannot be watched.", hint="Ask again.")
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        request = Request(verb="list", kind=kind, namespace=namespace, labels=labels, fields=fields)
        found: list[Json] = (await self._pipeline.handle(SYSTEM, request)).body["items"]
        return found

    async def _read(self, kind: Kind[Any], namespace: str, name: str) -> Json:
        request = Request(verb="get", kind=kind, namespace=namespace, name=name)
        return (await self._pipeline.handle(SYSTEM, request)).body

    async def _measure(self, names: list[str]) -> dict[str, dict[Key, Usage]]:
        used: dict[str, dict[Key, Usage]] = {}

        async def one(name: str) -> None:
            try:
                used[name] = await self._nodes[name].measure(name)
            except HeadraceError as error:
                _log.warning(NODE_NOT_MEASURED, node=name, error=str(error))

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(one, name)
        return used


class _Node:
    """Remembers the last look at one node, and what it told."""

    def __init__(self, ask: AskNode) -> None:
        self._ask = ask
        self._lock = anyio.Lock()
        self._last: Look | None = None
        self._told: dict[Key, Usage] = {}
        self._looked_at_s = -_MOST_WINDOW_S

    async def measure(self, name: str) -> dict[Key, Usage]:
        """Return what the node and its containers used lately; raises HeadraceError."""
        async with self._lock:
            age_s = anyio.current_time() - self._looked_at_s
            if self._told and age_s < _LEAST_WINDOW_S:
                return self._told
            look = await self._look(name)
            told = measured.usage(self._last, look) if self._last is not None and age_s <= _MOST_WINDOW_S else {}
            if measured.NODE_ITSELF not in told:  # the first look, or the first at a node that has begun anew
                await anyio.sleep(_LEAST_WINDOW_S)
                earlier, look = look, await self._look(name)
                told = measured.usage(earlier, look)
            self._last, self._told, self._looked_at_s = look, told, anyio.current_time()
            return told

    async def _look(self, name: str) -> Look:
        text = await self._ask(name)
        try:
            return measured.parse(text)
        except ValueError as error:
            raise Unavailable(
                f"Node {name} does not tell what it uses: {error}.", hint="See its agent's log."
            ) from error


def _of_node(node: Json, used: dict[str, dict[Key, Usage]]) -> Json | None:
    found = used.get(node["metadata"]["name"], {}).get(measured.NODE_ITSELF)
    return measured.node_metrics(node, found) if found else None


def _of_pod(pod: Json, used: dict[str, dict[Key, Usage]]) -> Json | None:
    place = (pod["metadata"]["namespace"], pod["metadata"]["name"])
    found = {key[2]: one for key, one in used.get(_node_of(pod), {}).items() if key[:2] == place}
    return measured.pod_metrics(pod, found) if found else None


def _node_of(pod: Json) -> str:
    """Return the node of a pod that runs, empty for others."""
    is_running = (pod.get("status") or {}).get("phase") == "Running"
    return str((pod.get("spec") or {}).get("nodeName") or "") if is_running else ""


def _nothing_yet(what: str, name: str) -> NoReturn:
    raise NotFound(f'{what}.{GROUP} "{name}" not found: it does not run, or has just begun to.')


def _list(kind: str, items: list[Json]) -> Json:
    return {"kind": kind, "apiVersion": API_VERSION, "metadata": {}, "items": items}


def _answer(http: HttpRequest, body: Json) -> Response:
    return answers.respond(body, media.form(http.headers.get("accept", "")))
