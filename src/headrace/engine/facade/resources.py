"""Verbs on resources: one HTTP request becomes one `Request` for the pipeline, and its answer becomes the response."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from headrace.clock import Clock
from headrace.engine.facade import answers, bodies, media, watching
from headrace.engine.facade.target import Target
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.refusals import BadRequest, MethodNotAllowed
from headrace.engine.pipeline.request import FieldValidation, Preconditions, Request, User
from headrace.errors import Expired, HeadraceError, InvalidSpec, NotFound
from headrace.spec.kind import Json, Kind

_VALIDATIONS: dict[str, FieldValidation] = {"": "Warn", "Strict": "Strict", "Warn": "Warn", "Ignore": "Ignore"}
_LONGEST_AGENT = 128
_MATCHES = ("", "Exact", "NotOlderThan")
_PROPAGATIONS = ("Background", "Foreground", "Orphan")


class Resources:
    """Serves everything below `/api/v1` and `/apis/<group>/<version>` that the registry knows."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        self._pipeline = pipeline
        self._clock = clock

    async def serve(self, http: HttpRequest, target: Target, user: User) -> Response:
        """Answer one request; raises NotFound for what is no resource."""
        kind = self._pipeline.registry.find(target.group, target.version, target.plural).kind
        if not kind.namespaced and target.namespace:
            raise NotFound(f"{kind.resource} are not in a namespace.", hint=f"Ask at {kind.path()}.")
        try:
            return await self._serve(http, kind, target, user)
        except HeadraceError as error:
            return answers.refuse(error, kind, target.name)

    async def _serve(self, http: HttpRequest, kind: Kind[Any], target: Target, user: User) -> Response:
        match http.method:
            case "GET" | "HEAD" if target.name and not _is_watch(http):
                return await self._get(http, kind, target, user)
            case "GET" | "HEAD":
                return await self._list_or_watch(http, kind, target, user)
            case "POST" if not target.name or target.subresource:
                return await self._write("create", http, kind, target, user)
            case "PUT" if target.name:
                return await self._write("update", http, kind, target, user)
            case "PATCH" if target.name:
                return await self._write("patch", http, kind, target, user)
            case "DELETE":
                return await self._delete(http, kind, target, user)
            case method:
                raise MethodNotAllowed(f"{method} is not possible at {http.url.path}.", hint="See /openapi/v3.")

    async def _get(self, http: HttpRequest, kind: Kind[Any], target: Target, user: User) -> Response:
        request = Request(
            verb="get",
            kind=kind,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
            version=http.query_params.get("resourceVersion", ""),
        )
        return await self._answer(http, kind, user, request)

    async def _list_or_watch(self, http: HttpRequest, kind: Kind[Any], target: Target, user: User) -> Response:
        query = http.query_params
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = ",".join(filter(None, [fields, f"metadata.name={target.name}"]))
        match_version = query.get("resourceVersionMatch", "")
        initial = watching.sends_initial_events(query)
        timeout_s = watching.timeout_s(query)
        if match_version not in _MATCHES or (match_version and not query.get("resourceVersion") and not initial):
            raise InvalidSpec(
                f"resourceVersionMatch={match_version} cannot be.",
                hint="Use Exact or NotOlderThan, together with resourceVersion.",
                causes=(("resourceVersionMatch", "must be Exact or NotOlderThan, together with resourceVersion"),),
            )
        request = Request(
            verb="watch" if _is_watch(http) else "list",
            kind=kind,
            namespace=target.namespace,
            labels=query.get("labelSelector", ""),
            fields=fields,
            limit=bodies.number(query.get("limit", "0"), "limit"),
            resume=query.get("continue", ""),
            version=query.get("resourceVersion", ""),
            version_match="" if initial else match_version,  # type: ignore[arg-type]
            send_initial_events=initial,
            bookmarks=_is_true(query.get("allowWatchBookmarks", "")),
        )
        if request.verb == "list":
            return await self._answer(http, kind, user, request)
        try:
            answer = await self._pipeline.handle(user, request)
        except Expired as error:
            return watching.refused(error)
        assert answer.stream is not None
        return watching.stream(
            answer.stream,
            kind,
            media.form(http.headers.get("accept", "")),
            self._clock,
            include=answers.include_object(query.get("includeObject", "")),
            timeout_s=timeout_s,
        )

    async def _write(self, verb: Any, http: HttpRequest, kind: Kind[Any], target: Target, user: User) -> Response:
        query = http.query_params
        validation = query.get("fieldValidation", "")
        if validation not in _VALIDATIONS:
            raise InvalidSpec(
                f"fieldValidation={validation} is not known.",
                hint="Use Strict, Warn or Ignore.",
                causes=(("fieldValidation", "must be Strict, Warn or Ignore"),),
            )
        patch: Json = {}
        body: bytes | Json
        if verb == "patch":
            patch["patch_type"], body = await bodies.read_patch(http)
            patch["force"] = _is_true(query.get("force", ""))
        else:
            body = await bodies.read_object(http)
        request = Request(
            verb=verb,
            kind=kind,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
            body=body,
            dry_run=_is_dry_run(query.getlist("dryRun")),
            field_validation=_VALIDATIONS[validation],
            field_manager=query.get("fieldManager", ""),
            agent=_agent(http.headers.get("user-agent", "")),
            **patch,
        )
        return await self._answer(http, kind, user, request)

    async def _delete(self, http: HttpRequest, kind: Kind[Any], target: Target, user: User) -> Response:
        options = await bodies.read_delete_options(http)
        preconditions = options.get("preconditions") or {}
        query = http.query_params
        request = Request(
            verb="delete" if target.name else "deletecollection",
            kind=kind,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            limit=bodies.number(query.get("limit", "0"), "limit"),
            dry_run=_is_dry_run([*(options.get("dryRun") or ()), *query.getlist("dryRun")]),
            grace_s=_grace_s(options),
            propagation=_propagation(options),
            preconditions=Preconditions(
                uid=preconditions.get("uid") or "", version=preconditions.get("resourceVersion") or ""
            ),
        )
        return await self._answer(http, kind, user, request)

    async def _answer(self, http: HttpRequest, kind: Kind[Any], user: User, request: Request) -> Response:
        form = media.form(http.headers.get("accept", ""))
        include = answers.include_object(http.query_params.get("includeObject", ""))
        answer = await self._pipeline.handle(user, request)
        body = answers.transformed(kind, answer.body, form, self._clock.now(), include=include)
        return answers.respond(body, form, status=answer.status, warnings=answer.warnings)


def _agent(user_agent: str) -> str:
    """Return the name of the caller's program: what stands before the first slash."""
    name = "".join(filter(str.isprintable, user_agent.partition("/")[0]))
    return name.encode()[:_LONGEST_AGENT].decode(errors="ignore")


def _is_watch(http: HttpRequest) -> bool:
    return _is_true(http.query_params.get("watch", ""))


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}


def _is_dry_run(values: list[str]) -> bool:
    for value in values:
        if value != "All":
            raise InvalidSpec(f"dryRun={value} is not known.", hint="Use All.", causes=(("dryRun", "must be All"),))
    return bool(values)


def _grace_s(options: Json) -> int | None:
    grace = options.get("gracePeriodSeconds")
    if grace is not None and not isinstance(grace, int):
        raise BadRequest(f"gracePeriodSeconds {grace} cannot be.", hint="Give whole seconds.")
    return grace


def _propagation(options: Json) -> Any:
    if options.get("orphanDependents") is not None:
        return "Orphan" if options["orphanDependents"] else "Background"
    chosen = options.get("propagationPolicy")
    if chosen is not None and chosen not in _PROPAGATIONS:
        raise InvalidSpec(
            f"propagationPolicy {chosen} is not known.",
            hint=f"Use {', '.join(_PROPAGATIONS)}.",
            causes=(("propagationPolicy", f"must be one of {', '.join(_PROPAGATIONS)}"),),
        )
    return chosen
