"""A client of registries: manifests and blobs, over the OCI distribution protocol (version 2).

Written here, over httpx2: the libraries there are (oras, python-dxf) are synchronous, hold whole layers or write where
they like, and know neither Kubernetes' credentials nor our deadlines. Reading is all that a node does.

Source: OCI distribution specification 1.1, "Pull".
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import msgspec

from headrace.errors import Denied, HeadraceError, InvalidSpec, NotFound, Unavailable
from headrace.node.images.challenges import authorization, read_challenges
from headrace.node.images.credentials import Credential
from headrace.node.images.manifest import ACCEPT, MOST_MANIFEST_BYTES
from headrace.node.images.reference import DIGEST
from headrace.node.images.registries import Endpoint

_CONNECT_S = 15.0
_SILENCE_S = 60.0
_ANSWER_S = 90.0
_PAUSES_S = (0.5, 1.0, 2.0)
_LONGEST_PAUSE_S = 30.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


def http_client(agent: str) -> httpx2.AsyncClient:
    """Return the client for all registries of a node. It trusts what this machine trusts, and uses its proxies."""
    import ssl

    timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
    limits = httpx2.Limits(max_connections=24, max_keepalive_connections=8)
    headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
    tls = ssl.create_default_context()
    direct: dict[str, Any] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}  # never by a proxy
    return httpx2.AsyncClient(
        verify=tls, timeout=timeout, limits=limits, headers=headers, mounts=direct, follow_redirects=True
    )


class Repository:
    """One repository at one endpoint, as one pod may see it."""

    def __init__(self, http: httpx2.AsyncClient, endpoint: Endpoint, credential: Credential | None) -> None:
        self.endpoint = endpoint
        self.credential = credential
        self._http = http
        self._authorization = ""
        self._is_authorizing = anyio.Lock()

    async def digest_of(self, version: str) -> str:
        """Return the digest of the manifest that a tag or digest names now, without reading it where that is possible.

        Raises:
            NotFound, Denied, Unavailable, InvalidSpec
        """
        async with self._request("HEAD", f"manifests/{version}", {"Accept": ACCEPT}, refused={405}) as response:
            digest = str(response.headers.get("Docker-Content-Digest") or "")
        if response.status_code == 200 and DIGEST.fullmatch(digest):
            return digest
        body, _ = await self.manifest(version)
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    async def manifest(self, version: str) -> tuple[bytes, str]:
        """Return a manifest and its media type; one that was asked for by digest has that digest.

        Raises:
            NotFound, Denied, Unavailable, InvalidSpec
        """
        return await self._small(f"manifests/{version}", {"Accept": ACCEPT}, version, MOST_MANIFEST_BYTES)

    async def small_blob(self, digest: str, most_bytes: int) -> bytes:
        """Return a blob that fits into memory; raises as `manifest` does."""
        return (await self._small(f"blobs/{digest}", {}, digest, most_bytes))[0]

    async def _small(self, path: str, headers: Mapping[str, str], version: str, most_bytes: int) -> tuple[bytes, str]:
        body = bytearray()
        async with self._request("GET", path, headers) as response:
            async for chunk in self._chunks(response):
                body += chunk
                if len(body) > most_bytes:
                    raise InvalidSpec(f"Registry {self.endpoint.host} sent more than {most_bytes} bytes as {path}.")
        if DIGEST.fullmatch(version) and digest_of(version, bytes(body)) != version:
            raise InvalidSpec(
                f"Registry {self.endpoint.host} sent other content than {version} as {path}.",
                hint="Somebody has changed it on its way, or the registry is broken: push the image again.",
            )
        return bytes(body), str(response.headers.get("Content-Type") or "")

    @asynccontextmanager
    async def blob(self, digest: str, offset: int = 0) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Open a blob at `offset`; give where the registry really began (it may know no ranges) and the bytes as they come.

        Raises:
            NotFound, Denied
            Unavailable: the connection broke; what came is good, and the rest can be asked for.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._request("GET", f"blobs/{digest}", headers) as response:
            began = offset if response.status_code == 206 else 0
            yield began, self._chunks(response)

    async def _chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx2.HTTPError as error:
            raise Unavailable(f"Registry {self.endpoint.host} broke off: {_why(error)}.") from error

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], refused: frozenset[int] | set[int] = frozenset()
    ) -> AsyncIterator[httpx2.Response]:
        """Send until it is answered: with a token where one is asked for, again where the registry is busy."""
        url = f"{self.endpoint.server}/v2/{self.endpoint.path}/{path}"
        response = await self._answered(method, url, headers)
        try:
            if response.status_code >= 400 and response.status_code not in refused:
                raise await self._refusal(response, path)
            yield response
        finally:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CONNECT_S):
                await response.aclose()

    async def _answered(self, method: str, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        tries, was_asked = 0, False
        while True:
            used = self._authorization
            response = await self._send(method, url, {**headers, **({"Authorization": used} if used else {})})
            if response.status_code == 401 and not was_asked:
                was_asked = True
                if await self._authorize(response, used):
                    await response.aclose()
                    continue
            if response.status_code not in _AGAIN or tries == len(_PAUSES_S):
                return response
            await response.aclose()
            after = str(response.headers.get("Retry-After") or "")
            await anyio.sleep(min(float(after), _LONGEST_PAUSE_S) if after.isdecimal() else _PAUSES_S[tries])
            tries += 1

    async def _send(self, method: str, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        request = self._http.build_request(method, url, headers=dict(headers))
        try:
            with anyio.fail_after(_ANSWER_S):
                return await self._http.send(request, stream=True)
        except (httpx2.HTTPError, TimeoutError) as error:
            if distrust := _distrust(error):
                raise Unavailable(
                    f"Registry {self.endpoint.host} shows a certificate that this machine does not trust: {distrust}.",
                    hint="Have the machine trust who signed it, or start the node with SSL_CERT_FILE naming a file of those "
                    "whom it trusts.",
                ) from error
            raise Unavailable(f"Registry {self.endpoint.host} cannot be reached: {_why(error)}.") from error
        except httpx2.InvalidURL as error:
            raise InvalidSpec(f"Registry {self.endpoint.host} sent us to a URL that is none: {error}.") from error

    async def _authorize(self, response: httpx2.Response, used: str) -> bool:
        """Get ourselves what the registry asks for; False where we have nothing that could convince it."""
        async with self._is_authorizing:
            if self._authorization != used:
                return True  # another request of ours was told the same and was quicker
            challenges = read_challenges(response.headers.get_list("www-authenticate"))
            self._authorization = await authorization(self._http, self.endpoint, challenges, self.credential)
            return bool(self._authorization) and self._authorization != used

    async def _refusal(self, response: httpx2.Response, path: str) -> HeadraceError:
        said = await self._said(response)
        host, where = self.endpoint.host, f"{self.endpoint.host}/{self.endpoint.path}"
        if response.status_code == 404:
            kind, _, version = path.partition("/")
            return NotFound(f"{where} has no {kind.removesuffix('s')} {version}{said}.", hint="Check name and tag.")
        if response.status_code in {401, 403}:
            if self.credential is None:
                return Denied(
                    f"Registry {host} lets nobody pull {self.endpoint.path} without a pull secret{said}.",
                    hint="Name one in imagePullSecrets, or check the image's name.",
                )
            return Denied(
                f"Registry {host} does not let user {self.credential.user!r} pull {self.endpoint.path}{said}.",
                hint="Check the pull secret, and the image's name.",
            )
        return Unavailable(f"Registry {host} answered {response.status_code} to {path}{said}.", hint="Try again later.")

    async def _said(self, response: httpx2.Response) -> str:
        body = b""
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MOST_MANIFEST_BYTES:
                    break
            errors = msgspec.json.decode(body)["errors"]
            return f" ({'; '.join(str(one.get('message') or one.get('code')) for one in errors)[:300]})"
        except (httpx2.HTTPError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return ""


def digest_of(like: str, body: bytes) -> str:
    """Return the digest of `body` by the algorithm of another digest."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def _distrust(error: BaseException) -> str:
    """Return why a server's certificate was not accepted; empty where it is not about that."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return ""


def _why(error: Any) -> str:
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return "it does not answer in time"
    return str(error) or type(error).__name__
