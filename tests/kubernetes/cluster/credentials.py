"""Who may speak to whom in a cluster: certificates of one authority, a token for the administrator, kubeconfigs."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from headrace.clock import SystemClock
from headrace.engine.pki import Authority, Certificate
from headrace.engine.tokens import StaticTokens

MASTERS = ("system:masters",)
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


class Credentials:
    """The secrets of one cluster, in a directory. Idempotent: what is there is used again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = Authority.open(directory / "authority", SystemClock())
        self._proxies = Authority.open(directory / "proxies", SystemClock())
        self._tokens = StaticTokens(directory / "tokens.csv")
        self.token = self._tokens.ensure("admin", MASTERS)

    @property
    def authority(self) -> Path:
        """The certificate that everybody trusts."""
        return self._authority.certificate

    @property
    def signer(self) -> Certificate:
        """What certificates are signed with that are asked for by CertificateSigningRequests."""
        return self._authority.signer

    @property
    def proxy_authority(self) -> Path:
        """The certificate that extension API servers trust, of requests that the API server passes on."""
        return self._proxies.certificate

    @property
    def token_file(self) -> Path:
        """The static tokens, for the API server."""
        return self._directory / "tokens.csv"

    @property
    def accounts(self) -> Certificate:
        """What service accounts' tokens are signed with, and known by."""
        return self._authority.client("service-accounts", user="service-accounts")

    def proxy_client(self) -> Certificate:
        """What the API server shows to extension API servers."""
        return self._proxies.client("front-proxy-client", user="front-proxy-client")

    def server(self, name: str, *addresses: str) -> Certificate:
        """What a server shows: the API server, or a node's kubelet."""
        return self._authority.server(name, ("127.0.0.1", "localhost", *SERVICE_NAMES, *addresses))

    def client(self, name: str, *, user: str, groups: tuple[str, ...] = ()) -> Certificate:
        """What a part of the cluster shows to another."""
        return self._authority.client(name, user=user, groups=groups)

    def kubeconfig(self, name: str, server: str, *, user: str, groups: tuple[str, ...] = ()) -> Path:
        """Write a kubeconfig with a client certificate of `user`."""
        certificate = self.client(name, user=user, groups=groups)
        shown = {
            "client-certificate-data": _data(certificate.certificate),
            "client-key-data": _data(certificate.key),
        }
        return self._write(name, server, shown)

    def admin_kubeconfig(self, server: str) -> Path:
        """Write a kubeconfig with the administrator's token."""
        return self._write("admin", server, {"token": self.token})

    def _write(self, name: str, server: str, user: dict[str, str]) -> Path:
        path = self._directory / f"{name}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "tests", "cluster": {"server": server, "certificate-authority-data": _data(self.authority)}}
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
            "current-context": "tests",
        }
        path.touch(mode=0o600)
        path.write_bytes(msgspec.yaml.encode(content))
        return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
