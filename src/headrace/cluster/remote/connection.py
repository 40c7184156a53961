"""Who to talk to and as whom: from a kubeconfig, or from the service account of the pod this runs in.

The files are read by lightkube. Credentials: bearer tokens, token files (read again when refused, because they are
rotated), credential plugins (`exec`), client certificates. Basic auth and the old `auth-provider` are refused by name.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import msgspec

from headrace.cluster.remote.pipes import Pipes
from headrace.errors import Denied, InvalidSpec, Unsupported
from headrace.spec.kind import Json

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

CONNECT_TIMEOUT_S = 10.0
_PLUGIN_TIMEOUT_S = 60.0  # some ask a person

# A peer that vanishes without a word (power, network) is noticed after about a minute, on silent streams too.
_SOCKET_OPTIONS = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 60_000),
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    )
    if hasattr(socket, name)
]

_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=60.0)

TokenSource = Callable[[], Awaitable[str]]


class BearerAuth(httpx2.Auth):
    """Sends a token, and once more with a new one when the server refuses it."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token = ""
        self._lock = anyio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        used = self._token or await self._renew("")
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code == 401:
            renewed = await self._renew(used)
            if renewed != used:
                request.headers["Authorization"] = f"Bearer {renewed}"
                yield request

    async def _renew(self, refused: str) -> str:
        async with self._lock:
            if self._token == refused:  # else another request has renewed it meanwhile
                self._token = await self._source()
            return self._token


def fixed_token(token: str) -> TokenSource:
    """Return the source of a token that never changes."""

    async def read() -> str:
        return token

    return read


def token_file(path: Path) -> TokenSource:
    """Return the source that reads a file."""

    async def read() -> str:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise Denied(f"The token file {path} cannot be read: {error.strerror}.", code="Unauthorized") from error

    return read


def credential_plugin(plugin: Any) -> TokenSource:
    """Return the source that runs a kubeconfig's `exec` command (client.authentication.k8s.io ExecCredential)."""
    asked = {"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {
        **os.environ,
        **{entry.name: entry.value for entry in plugin.env or ()},
        "KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode(),
    }

    async def run() -> str:
        command = [plugin.command, *(plugin.args or ())]
        try:
            with anyio.fail_after(_PLUGIN_TIMEOUT_S):
                done = await anyio.run_process(command, env=environment, check=False, stderr=None)
            answer: Json = msgspec.json.decode(done.stdout, type=dict[str, Any])
            return str(answer["status"]["token"])
        except (OSError, TimeoutError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise Denied(
                f"The credential plugin {plugin.command!r} gave no token: {error!r}.",
                hint=f"Run it by hand: {' '.join(command)}. {plugin.installHint or ''}",
                code="Unauthorized",
            ) from error

    return run


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a client needs.

    Args:
        server: URL.
        tls: of an https server.
        auth: None for certificates or nobody.
        agent: the program, by which the server names the owner of fields that are written.
    """

    server: str
    namespace: str = "default"
    tls: Any = True  # ssl.SSLContext
    auth: Any = None  # httpx2.Auth
    agent: str = "headrace"

    def transport(self) -> Pipes:
        """Return what keeps connections to the server."""
        tls = self.tls if isinstance(self.tls, ssl.SSLContext) else httpx2.create_ssl_context(self.tls)
        other = httpx2.AsyncHTTPTransport(verify=tls, limits=_LIMITS, socket_options=_SOCKET_OPTIONS)
        return Pipes(tls, _SOCKET_OPTIONS, other)

    def open(self, transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
        """Return a client that keeps its connections. Proxies of the environment are used, but never to this machine.

        Args:
            transport: what carries its requests, such as one whose credential is renewed; its own by default.
        """
        url = httpx2.URL(self.server)
        is_near = _is_loopback(url.host)
        if transport is None and (is_near or not _has_proxy(url)):
            transport = self.transport()  # httpx2 looks for proxies only where it has its own
        return httpx2.AsyncClient(
            base_url=self.server,
            auth=self.auth,
            headers={"User-Agent": self.agent},
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            verify=self.tls,
            trust_env=not is_near,
            limits=_LIMITS,
            transport=transport,
            event_hooks={"response": [_read_refusals]},
        )


async def _read_refusals(response: httpx2.Response) -> None:
    """Read the Status of a refusal while it can be read: a stream, or a refused upgrade, is closed before we see it."""
    if response.status_code >= 400:
        await response.aread()


def _has_proxy(url: httpx2.URL) -> bool:
    proxies = urllib.request.getproxies_environment()
    is_exempt = urllib.request.proxy_bypass_environment(url.host, proxies)  # type: ignore[attr-defined] # typeshed lacks it
    return bool(proxies.keys() & {url.scheme, "all"}) and not is_exempt


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def from_kubeconfig(path: Path, context: str | None = None) -> Connection:
    """Read a kubeconfig; raises InvalidSpec where it cannot be used as it is."""
    from lightkube.config.kubeconfig import KubeConfig  # 0.1 s that only those pay who need it

    try:
        return _connection(KubeConfig.from_file(path).get(context))
    except (InvalidSpec, Unsupported):
        raise
    except Exception as error:
        raise InvalidSpec(
            f"The kubeconfig {path} cannot be used: {error}.",
            hint="See what it holds with: kubectl config view --kubeconfig FILE",
        ) from error


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The server of a kubeconfig. `authority`: whom to trust, PEM in base64; empty means those whom the machine trusts."""

    server: str
    authority: str
    is_insecure: bool


def read_cluster(path: Path, context: str | None = None) -> Target:
    """Read of a kubeconfig which server it leads to, and how that is known; raises InvalidSpec as `from_kubeconfig`."""
    from lightkube.config.kubeconfig import KubeConfig

    from_kubeconfig(path, context)  # all that can be wrong with it
    config = KubeConfig.from_file(path).get(context)
    assert config is not None
    cluster = config.cluster
    authority = cluster.certificate_auth_data or ""
    if cluster.certificate_auth and not authority:
        authority = base64.b64encode(Path(config.abs_file(cluster.certificate_auth)).read_bytes()).decode()
    return Target(server=cluster.server, authority=authority, is_insecure=cluster.insecure)


def in_cluster() -> Connection:
    """Return the connection of the service account of the pod this runs in; raises InvalidSpec outside of a pod."""
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.core.exceptions import ConfigError

    try:
        return _connection(KubeConfig.from_service_account().get())
    except (ConfigError, KeyError) as error:
        raise InvalidSpec(f"This is no pod with a service account: {error}.", hint="Give a kubeconfig.") from error


def _connection(config: SingleConfig | None) -> Connection:
    assert config is not None
    cluster, user = config.cluster, config.user
    authority = cluster.certificate_auth_data
    tls = ssl.create_default_context(
        cadata=base64.b64decode(authority).decode() if authority else None,
        cafile=config.abs_file(cluster.certificate_auth) if cluster.certificate_auth and not authority else None,
    )
    if cluster.insecure:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    auth: httpx2.Auth | None = None
    if user is not None:
        if user.client_cert or user.client_cert_data:
            _load_client_certificate(tls, config)
        if user.token_file:
            auth = BearerAuth(token_file(Path(config.abs_file(user.token_file))))
        elif user.token:
            auth = BearerAuth(fixed_token(user.token))
        elif user.exec:
            auth = BearerAuth(credential_plugin(user.exec))
        elif user.username or user.auth_provider:
            raise Unsupported(
                "The kubeconfig's user has only a password or an auth-provider, which Kubernetes took out long ago.",
                hint="Use a token, a client certificate or an exec plugin.",
            )
    return Connection(server=cluster.server, namespace=config.namespace, tls=tls, auth=auth)


def _load_client_certificate(tls: ssl.SSLContext, config: SingleConfig) -> None:
    """OpenSSL reads certificates from files only, so inline ones are in one for a moment, readable by us alone."""
    user = config.user
    assert user is not None
    with tempfile.TemporaryDirectory() as directory:
        places = []
        for name, inline, path in (
            ("tls.crt", user.client_cert_data, user.client_cert),
            ("tls.key", user.client_key_data, user.client_key),
        ):
            if inline:
                place = Path(directory, name)
                place.write_bytes(base64.b64decode(inline))
                places.append(str(place))
            elif path:
                places.append(str(config.abs_file(path)))
        tls.load_cert_chain(*places)
