"""The four ways to ask a container something: exec, httpGet, tcpSocket, sleep. Probes and lifecycle hooks share them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

import anyio
import httpx2

from headrace.errors import InvalidSpec, Unsupported
from headrace.node.podspec import Container, PodSpec
from headrace.node.world import World
from headrace.spec.kind import Json

_OUTPUT_BYTES = 10 * 1024
_BODY_BYTES = 10 * 1024
_END_S = 5.0
_REQUEST_S = 30.0
"""The most for one request, where a hook has no deadline of its own."""


class Verdict(NamedTuple):
    """Whether it succeeded, and what it said when it did not."""

    ok: bool
    said: str = ""


class Handlers:
    """Carries out handlers in the containers of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self, pod: PodSpec, container: Container, handler: Json, address: str, timeout_s: float) -> Verdict:
        """Carry out one handler; a failure of the container is a verdict, never an exception.

        Args:
            address: where httpGet and tcpSocket go unless they name a host.

        Raises:
            Unavailable: the world cannot be asked now, so nothing is known.
            Unsupported, InvalidSpec: the handler cannot be carried out by anybody here.
        """
        if "exec" in handler:
            return await self._exec(pod, container, handler["exec"].get("command") or [], timeout_s)
        if "httpGet" in handler:
            return await _http_get(_HttpGet.of(container, handler["httpGet"], address), min(timeout_s, _REQUEST_S))
        if "tcpSocket" in handler:
            chosen: Json = handler["tcpSocket"]
            host, port = str(chosen.get("host") or address), port_of(container, chosen.get("port"))
            return await _tcp(host, port, min(timeout_s, _REQUEST_S))
        if "sleep" in handler:
            await anyio.sleep(float(handler["sleep"].get("seconds") or 0))
            return Verdict(True)
        kind = next(iter(handler), "nothing")
        raise Unsupported(
            f"{container.path}: a handler of kind {kind} is not supported by this node; use exec or httpGet."
        )

    async def _exec(self, pod: PodSpec, container: Container, command: Sequence[str], timeout_s: float) -> Verdict:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        out, out_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(out_end, True)
        try:
            running = await self._world.exec(
                fds=(null, out_end, out_end),
                pod=pod.uid,
                container=container.name,
                argv=list(command),
                tty=False,
            )
            os.close(out_end)
            out_end = -1
            with anyio.move_on_after(timeout_s) as limit:
                code = await running.wait()
            if limit.cancelled_caught:
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _END_S):
                    await running.signal(signal.SIGKILL)
                return Verdict(False, f"command timed out after {timeout_s:g} s")
            return Verdict(True) if code == 0 else Verdict(False, _read(out) or f"exit code {code}")
        finally:
            for fd in (null, out, out_end):
                if fd >= 0:
                    os.close(fd)


def port_of(container: Container, port: int | str | None) -> int:
    """Return a port by number or by its name in the container's ports; raises InvalidSpec."""
    if isinstance(port, int) or (isinstance(port, str) and port.isdigit()):
        return int(port)
    for named in container.raw.get("ports") or []:
        if port and named.get("name") == port:
            return int(named["containerPort"])
    raise InvalidSpec(f"{container.path} has no port named {port!r}.")


def _read(fd: int) -> str:
    try:
        return os.read(fd, _OUTPUT_BYTES).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return ""


class _HttpGet(NamedTuple):
    url: str
    host: str
    headers: dict[str, str]

    @staticmethod
    def of(container: Container, chosen: Json, address: str) -> _HttpGet:
        scheme = str(chosen.get("scheme") or "HTTP").lower()
        host = str(chosen.get("host") or address)
        path = str(chosen.get("path") or "/")
        headers = {str(h["name"]): str(h["value"]) for h in chosen.get("httpHeaders") or []}
        given = {name.lower() for name in headers}
        defaults = {"User-Agent": "kube-probe/headrace", "Accept": "*/*"}
        headers |= {name: value for name, value in defaults.items() if name.lower() not in given}
        url = f"{scheme}://{host}:{port_of(container, chosen.get('port'))}/{path.removeprefix('/')}"
        return _HttpGet(url, host, headers)


async def _http_get(get: _HttpGet, timeout_s: float) -> Verdict:
    """Status 200 to 399 is success. Certificates are not checked and no proxy is used, as by kubelet."""
    try:
        with anyio.fail_after(timeout_s):
            async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=timeout_s) as client:
                async with client.stream("GET", get.url, headers=get.headers, follow_redirects=False) as answer:
                    if 200 <= answer.status_code < 400:
                        return Verdict(True)
                    body = b""
                    async for chunk in answer.aiter_bytes():
                        body += chunk
                        if len(body) >= _BODY_BYTES:
                            break
                    text = body[:_BODY_BYTES].decode("utf-8", "replace").strip()
                    return Verdict(False, f"HTTP probe failed with statuscode: {answer.status_code} {text}".strip())
    except TimeoutError:
        return Verdict(False, f"Get {get.url}: no answer within {timeout_s:g} s")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return Verdict(False, f"Get {get.url}: {error or type(error).__name__}")


async def _tcp(host: str, port: int, timeout_s: float) -> Verdict:
    try:
        with anyio.fail_after(timeout_s):
            stream = await anyio.connect_tcp(host, port)
            await stream.aclose()
    except TimeoutError:
        return Verdict(False, f"dial tcp {host}:{port}: no answer within {timeout_s:g} s")
    except OSError as error:
        return Verdict(False, f"dial tcp {host}:{port}: {error}")
    return Verdict(True)
