"""Posts reviews to webhooks over HTTPS, on kept connections, within each webhook's time.

What goes wrong is said as Go's HTTP client says it, because that is what people search for.
"""

from __future__ import annotations

import json
import ssl
from base64 import b64decode
from collections.abc import Iterator
from types import TracebackType

import anyio
import httpx2

from headrace.engine.pipeline.webhooks.addressing import Addresses, Nowhere, Place
from headrace.engine.pipeline.webhooks.review import Unusable
from headrace.engine.store.store import Store
from headrace.spec.core.webhooks import WebhookClientConfig

_LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
_MOST_AUTHORITIES = 64
_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, */*",
    "user-agent": "kube-apiserver-admission",
}
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})
_EXPIRED, _NAME_MISMATCH, _ADDRESS_MISMATCH = frozenset({9, 10}), 62, 64
"""OpenSSL's X509_V_ERR_…, of which Python has no names."""
_NO_MESSAGE = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
"""Source: apimachinery `pkg/api/errors`, NewGenericServerResponse."""


class HttpsCaller:
    """`dispatch.Caller` over httpx2; a context manager that closes its connections.

    There is one client for each authority that webhooks are proved by.
    """

    def __init__(self, store: Store) -> None:
        self._addresses = Addresses(store)
        self._clients: dict[str, httpx2.AsyncClient] = {}

    async def __aenter__(self) -> HttpsCaller:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def call(self, client: WebhookClientConfig, body: bytes, timeout_s: int) -> bytes:
        """Post a review and return the answer; raises Unusable."""
        http = await self._client(client.ca_bundle)
        try:
            place = self._addresses.of(client)
        except Nowhere as error:
            raise _failed(_shown(error.url, timeout_s), str(error)) from error
        shown = _shown(place.url, timeout_s)
        try:
            with anyio.fail_after(timeout_s):
                status, content_type, answer = await self._post(http, place, body, timeout_s)
        except TimeoutError as error:
            raise _failed(shown, "context deadline exceeded") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _failed(shown, _why(error, place)) from error
        if not 200 <= status <= 206:
            raise Unusable(f"failed to call webhook: {_refused(status, answer)}")
        if not answer:
            what = f"0-length response with status code: {status} and content type: {content_type}"
            raise Unusable(f"failed to call webhook: {what}")
        return answer

    async def _post(
        self, http: httpx2.AsyncClient, place: Place, body: bytes, timeout_s: int
    ) -> tuple[int, str, bytes]:
        url = httpx2.URL(place.url).copy_with(host=place.host, port=place.port, query=f"timeout={timeout_s}s".encode())
        headers = {**_HEADERS, "host": place.url.split("/")[2]}
        for is_last in (False, True):
            try:
                request = http.build_request(
                    "POST", url, content=body, headers=headers, extensions={"sni_hostname": place.server_name}
                )
                response = await http.send(request, stream=True)
                try:
                    return response.status_code, response.headers.get("content-type", ""), await _read(response)
                finally:
                    await response.aclose()
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                # A kept connection that the other side closed at this very moment; nothing was answered on it.
                if is_last:
                    raise
        raise AssertionError

    async def _client(self, ca_bundle: str) -> httpx2.AsyncClient:
        if ca_bundle not in self._clients:
            context = _trust(ca_bundle)
            if len(self._clients) >= _MOST_AUTHORITIES:
                oldest = next(iter(self._clients))
                await self._clients.pop(oldest).aclose()
            self._clients[ca_bundle] = httpx2.AsyncClient(verify=context, trust_env=False, timeout=None)
        return self._clients[ca_bundle]


def _trust(ca_bundle: str) -> ssl.SSLContext:
    """Return what proves a webhook: its bundle alone, or the machine's authorities where it has none."""
    context = ssl.create_default_context()
    if not ca_bundle:
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=b64decode(ca_bundle).decode("ascii"))
    except (ValueError, ssl.SSLError) as error:
        why = "unable to load root certificates: unable to parse bytes as PEM block"
        raise Unusable(f"could not get REST client: {why}") from error
    return context


async def _read(response: httpx2.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise Unusable(f"failed to call webhook: the answer is longer than {_LARGEST_ANSWER_BYTES} bytes")
    return body


def _refused(status: int, body: bytes) -> str:
    text = body.decode(errors="replace").strip() or "unknown"
    if status in {403, 406, 415}:
        return text
    if status in _NO_MESSAGE:
        return _NO_MESSAGE[status]
    if status >= 500:
        return (
            f"an error on the server ({json.dumps(text, ensure_ascii=False)}) has prevented the request from succeeding"
        )
    return f"the server responded with the status code {status} but did not return more information"


def _why(error: Exception, place: Place) -> str:
    """Return what happened in Go's words; what the system said is some causes deep."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"tls: failed to verify certificate: x509: {_certificate(cause, place)}"
        if isinstance(cause, ssl.SSLError):
            return f"tls: {cause.reason or cause}"
        if isinstance(cause, ConnectionRefusedError):
            return f"dial tcp {place.target}: connect: connection refused"
        if isinstance(cause, ConnectionResetError):
            return f"read tcp {place.target}: read: connection reset by peer"
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return f"dial tcp {place.target}: {cause.strerror.lower()}"
    return "EOF" if isinstance(error, httpx2.RemoteProtocolError) else str(error) or type(error).__name__


def _certificate(error: ssl.SSLCertVerificationError, place: Place) -> str:
    code = error.verify_code
    if code in _UNKNOWN_AUTHORITY:
        return "certificate signed by unknown authority"
    if code in _EXPIRED:
        return "certificate has expired or is not yet valid"
    if code in {_NAME_MISMATCH, _ADDRESS_MISMATCH}:
        return f"certificate is not valid for {place.server_name}"
    return str(error.verify_message)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            for inner in seen.exceptions:
                yield from _causes(inner)
        seen = seen.__cause__ or seen.__context__


def _failed(url: str, why: str) -> Unusable:
    return Unusable(f'failed to call webhook: Post "{url}": {why}')


def _shown(url: str, timeout_s: int) -> str:
    has_path = url.count("/") > 2
    return f"{url}{'' if has_path else '/'}?timeout={timeout_s}s"
