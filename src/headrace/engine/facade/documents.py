"""Routes that describe the server: version, health, discovery and OpenAPI."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version as package_version

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from headrace.engine.facade import media
from headrace.engine.facade.discovery import Answered, Discovery
from headrace.engine.facade.refusals import NotAcceptable
from headrace.engine.facade.target import not_found
from headrace.engine.openapi.document import Documents, index
from headrace.spec.kind import Json

KUBERNETES_MINOR = "36"
_YEAR_S = 365 * 24 * 3600
_JSON = "application/json"


def server_version() -> Json:
    """Return the body of `/version`: the Kubernetes version whose API is served, with ours behind the plus."""
    return {
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "gitVersion": f"v1.{KUBERNETES_MINOR}.3+headrace.{package_version('headrace')}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": f"python {platform.python_version()}",
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


class DocumentRoutes:
    """The routes; `ready` tells what keeps the server from being ready, an empty text when nothing does."""

    def __init__(self, discovery: Discovery, documents: Documents, ready: Callable[[], str]) -> None:
        self._discovery = discovery
        self._documents = documents
        self._ready = ready

    def routes(self) -> Sequence[Route]:
        return [
            Route("/version", self._version),
            *(Route(f"/{name}", self._health) for name in ("healthz", "livez", "readyz")),
            *(Route(f"/{name}/{{check:path}}", self._health) for name in ("healthz", "livez", "readyz")),
            *(Route(f"/api{slash}", self._core) for slash in ("", "/")),
            *(Route(f"/apis{slash}", self._groups) for slash in ("", "/")),
            Route("/apis/{group}", self._group),
            Route("/api/{version}", self._resources),
            Route("/apis/{group}/{version}", self._resources),
            Route("/openapi/v3", self._openapi_index),
            Route("/openapi/v3/{path:path}", self._openapi),
        ]

    async def _version(self, http: HttpRequest) -> Response:  # noqa: ARG002 Starlette's signature
        return JSONResponse(server_version())

    async def _health(self, http: HttpRequest) -> Response:
        reason = self._ready() if http.url.path.startswith("/readyz") else ""
        return PlainTextResponse(reason or "ok", 503 if reason else 200)

    async def _core(self, http: HttpRequest) -> Response:
        if media.wants_aggregated_discovery(http.headers.get("accept", "")):
            return _answer(http, self._discovery.aggregated(core=True), media.DISCOVERY)
        return _answer(http, self._discovery.versions())

    async def _groups(self, http: HttpRequest) -> Response:
        if media.wants_aggregated_discovery(http.headers.get("accept", "")):
            return _answer(http, self._discovery.aggregated(core=False), media.DISCOVERY)
        return _answer(http, self._discovery.groups())

    async def _group(self, http: HttpRequest) -> Response:
        return _answer(http, self._discovery.group(http.path_params["group"]))

    async def _resources(self, http: HttpRequest) -> Response:
        place = http.path_params
        return _answer(http, self._discovery.resources(place.get("group", ""), place["version"]))

    async def _openapi_index(self, http: HttpRequest) -> Response:  # noqa: ARG002 Starlette's signature
        return JSONResponse(index(await self._documents.current()))

    async def _openapi(self, http: HttpRequest) -> Response:
        path = http.path_params["path"].strip("/")
        document = (await self._documents.current()).get(path)
        if document is None:
            raise not_found()
        # Protobuf is what old clients ask for first; only JSON is made here, and they ask again for it.
        if not any(
            part.type in {_JSON, "application/*", "*/*"} for part in media.ranges(http.headers.get("accept", ""))
        ):
            raise NotAcceptable("OpenAPI documents are made as JSON only.", hint="Accept application/json.")
        asked = http.query_params.get("hash", "")
        if asked and asked != document.hash:
            return RedirectResponse(f"/openapi/v3/{path}?hash={document.hash}", 301)
        headers = {"etag": f'"{document.hash}"', "vary": "Accept, Accept-Encoding"}
        if asked:
            headers["cache-control"] = f"public, immutable, max-age={_YEAR_S}"
        if http.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        if "gzip" in http.headers.get("accept-encoding", ""):
            return Response(document.packed, media_type=_JSON, headers=headers | {"content-encoding": "gzip"})
        return Response(document.text(), media_type=_JSON, headers=headers)


def _answer(http: HttpRequest, answered: Answered | None, media_type: str = _JSON) -> Response:
    if answered is None:
        raise not_found()
    headers = {"etag": answered.etag, "vary": "Accept", "cache-control": "public"}
    if http.headers.get("if-none-match") == answered.etag:
        return Response(status_code=304, headers=headers)
    return Response(answered.body, media_type=media_type, headers=headers)
