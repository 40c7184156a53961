"""The HTTP routes of `reads.headrace.io` and of code archives. Thin: parse, ask, encode; errors are Kubernetes Statuses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headrace.api import waiting
from headrace.api.code import CodeStore
from headrace.clock import Clock, format_time, parse_time
from headrace.cluster.cache import Cache
from headrace.errors import HeadraceError, InvalidSpec, NotFound
from headrace.jobs.workloads import Workloads
from headrace.ledger import usage
from headrace.ledger.pricing import spans as derive
from headrace.ledger.store import Ledger
from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NAMESPACE, TRAIN_JOB
from headrace.spec.names import READS_GROUP, READS_VERSION
from headrace.spec.validation import validate

BASE = f"/apis/{READS_GROUP}/{READS_VERSION}"
MAX_CODE_BYTES = 256 * 2**20

_RESOURCES = (
    ("trainjobs/waiting", "Waiting", True, ("get",)),
    ("quote", "Quote", True, ("create",)),
    ("usage", "Usage", False, ("get", "list")),
    ("code", "Code", True, ("update",)),
    ("code/known", "CodeKnown", True, ("get",)),
)
"""What discovery tells: name, kind, whether in a namespace, verbs. None can be watched or deleted."""


class Reads:
    """Holds what the routes ask.

    Args:
        project_label: what namespaces have in which jobs run; empty where they run in all.
    """

    def __init__(
        self,
        cache: Cache,
        workloads: Workloads,
        ledger: Ledger,
        code: CodeStore,
        clock: Clock,
        *,
        project_label: str = "",
    ) -> None:
        self._jobs = cache.reader(TRAIN_JOB)
        self._namespaces = cache.reader(NAMESPACE)
        self._project_label = project_label
        self._workloads = workloads
        self._ledger = ledger
        self._code = code
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(2)

    def routes(self) -> list[Route]:
        """Return the authenticated routes of the aggregated group."""
        space = BASE + "/namespaces/{namespace}"
        return [
            Route(BASE, self._answer(self._resources)),
            Route(space + "/trainjobs/{name}/waiting", self._answer(self._waiting)),
            Route(space + "/quote", self._answer(self._quote), methods=["POST"]),
            Route(BASE + "/usage", self._answer(self._usage)),
            Route(BASE + "/usage/replay", self._answer(self._replay)),
            Route(space + "/code/{digest}", self._answer(self._put_code), methods=["PUT"]),
            Route(space + "/code/{digest}/known", self._answer(self._has_code)),
        ]

    def public_routes(self) -> list[Route]:
        """Return the routes whose path or query is itself the credential: code archives, for workers."""
        return [Route("/code/{digest}", self._fetch_code)]

    def _answer(self, handler: Callable[[Request], Awaitable[Json]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return _json(await handler(request))
            except HeadraceError as error:
                return _json(status_of(error), error.http_status)

        return endpoint

    async def _resources(self, _request: Request) -> Json:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{READS_GROUP}/{READS_VERSION}",
            "resources": [_resource(*row) for row in _RESOURCES],
        }

    async def _waiting(self, request: Request) -> Json:
        ref = Ref(request.path_params["namespace"], request.path_params["name"])
        job = self._jobs.get(ref)
        if job is None:
            self._refuse_elsewhere(ref.namespace)
            raise NotFound(f"There is no TrainJob {ref}.", hint="List them with: headrace ps")
        return waiting.explain(job, self._workloads.snapshot(self._clock.now().timestamp()))

    async def _quote(self, request: Request) -> Json:
        self._refuse_elsewhere(request.path_params["namespace"])
        body = apply_defaults(TRAIN_JOB, _decode(await request.body()))
        problems = validate(TRAIN_JOB, body)
        if problems:
            raise InvalidSpec(
                f"TrainJob {body.get('metadata', {}).get('name', '')} is invalid.",
                causes=tuple((problem.path, problem.message) for problem in problems),
            )
        now = self._clock.now()
        body["metadata"] |= {
            "uid": "quote",
            "namespace": request.path_params["namespace"],
            "creationTimestamp": format_time(now),
        }
        body["status"] = {"phase": "Queued", "queuedAt": format_time(now)}
        job: Doc[Any] = Doc(TRAIN_JOB, body)
        return waiting.quote(str(job.ref), self._workloads.snapshot(now.timestamp(), candidate=job))

    def _refuse_elsewhere(self, name: str) -> None:
        """Raise NotFound where nothing is done with jobs, so that nobody waits for them."""
        namespace = self._namespaces.get(Ref("", name))
        if self._project_label and (namespace is None or self._project_label not in namespace.labels):
            raise NotFound(
                f"Namespace {name} is no project of Headrace, so nothing is done with what is in it.",
                hint=f"Whoever installed Headrace makes it one, and then it goes on by itself: headrace install --project {name}",
                code="NoProject",
            )

    async def _usage(self, request: Request) -> Json:
        asked = request.query_params
        since, until = _moment(asked.get("since")), _moment(asked.get("until"))
        events = await self._in_thread(self._ledger.events, asked)
        found = usage.window(
            derive(events, self._clock.now()),
            pool=asked.get("pool", ""),
            user=asked.get("user", ""),
            since=since,
            until=until,
        )
        return usage.bill(found, asked.get("by") or "span")

    async def _replay(self, request: Request) -> Json:
        events = await self._in_thread(self._ledger.events, request.query_params)
        billed = await self._in_thread(self._ledger.spans, request.query_params)
        return usage.replay(events, billed, self._clock.now())

    async def _in_thread(self, read: Any, asked: Any) -> Any:
        namespace, job = asked.get("namespace", ""), asked.get("job", "")
        return await anyio.to_thread.run_sync(lambda: read(namespace=namespace, job=job), limiter=self._limiter)

    async def _put_code(self, request: Request) -> Json:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > MAX_CODE_BYTES:
                raise InvalidSpec(
                    "The code archive is larger than 256 MiB.", hint="Put data on a claim, not into the code."
                )
        digest = request.path_params["digest"]
        await anyio.to_thread.run_sync(self._code.put, digest, bytes(content), limiter=self._limiter)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    async def _has_code(self, request: Request) -> Json:
        digest = request.path_params["digest"]
        return {"known": await anyio.to_thread.run_sync(self._code.has, digest, limiter=self._limiter)}

    async def _fetch_code(self, request: Request) -> Response:
        try:
            parts = await anyio.to_thread.run_sync(
                self._code.open,
                request.path_params["digest"],
                request.query_params.get("token", ""),
                limiter=self._limiter,
            )
        except HeadraceError as error:
            return _json(status_of(error), error.http_status)
        return StreamingResponse(parts, media_type="application/gzip")


def _resource(name: str, kind: str, namespaced: bool, verbs: tuple[str, ...]) -> Json:
    return {"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": list(verbs)}


def _json(body: Json, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def _decode(content: bytes) -> Json:
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise InvalidSpec(f"The body is no JSON: {error}.", hint="Send a TrainJob as JSON.") from error
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise InvalidSpec("The body is no object.", hint="Send a TrainJob as JSON.")
    body.setdefault("metadata", {})
    return body


def _moment(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise InvalidSpec(f"{text!r} is no time: {error}.", hint="Write it as 2026-11-23T00:00:00Z") from error


def status_of(error: HeadraceError) -> Json:
    """Return the error as a Kubernetes Status, the shape every client of the cluster understands."""
    causes = [{"field": path, "message": message} for path, message in getattr(error, "causes", ())]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": str(error),
        "reason": error.code,
        "code": error.http_status,
        "details": {**({"causes": causes} if causes else {}), **({"hint": error.hint} if error.hint else {})},
    }
