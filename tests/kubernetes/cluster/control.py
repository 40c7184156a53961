"""The control plane: etcd, the API server, the controllers and the scheduler, on loopback and the cluster's bridge."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
from tests.kubernetes.cluster import programs
from tests.kubernetes.cluster.credentials import MASTERS, Credentials
from tests.kubernetes.cluster.place import SERVICE_ADDRESSES, Place
from tests.kubernetes.cluster.processes import Processes

ETCD, API_SERVER = "etcd", "kube-apiserver"
CONTROLLERS, SCHEDULER = "kube-controller-manager", "kube-scheduler"


class Control:
    """Starts the control plane of a place. Nodes need root; without it the API server listens on loopback only.

    Args:
        calls_pods: webhooks and aggregated APIs behind a Service are called at its pods.
    """

    def __init__(
        self, place: Place, processes: Processes, credentials: Credentials, *, calls_pods: bool = False
    ) -> None:
        self._calls_pods = calls_pods
        self._place = place
        self._processes = processes
        self._credentials = credentials
        self._programs = programs.control_programs()
        self._has_bridge = os.geteuid() == 0 and shutil.which("ip") is not None
        self._address = place.bridge_address if self._has_bridge else "127.0.0.1"
        self.url = f"https://{self._address}:{place.ports[API_SERVER]}"

    def start(self) -> Path:
        """Start everything but the scheduler, which has nothing to do before there is a node; returns a kubeconfig."""
        if self._has_bridge:
            make_bridge(self._place)
        self._start_etcd()
        self._start_api_server()
        self._start("kube-controller-manager", *self._controller_options())
        return self._credentials.admin_kubeconfig(self.url)

    def start_scheduler(self) -> None:
        """Start the scheduler. Idempotent."""
        if self._processes.find(SCHEDULER) is None:
            self._start(SCHEDULER, *self._client_options(SCHEDULER))

    def _start_etcd(self) -> None:
        clients, peers = (f"http://127.0.0.1:{self._place.ports[name]}" for name in ("etcd", "etcd-peers"))
        self._processes.start(
            ETCD,
            [
                self._programs / "etcd",
                f"--data-dir={self._place.directory / 'etcd'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
        self._processes.wait(ETCD, lambda: _answers(f"{clients}/health"))

    def _start_api_server(self) -> None:
        credentials, place = self._credentials, self._place
        served = credentials.server(API_SERVER, self._address, "10.96.0.1")
        kubelets = credentials.client("kubelet-client", user="kube-apiserver", groups=MASTERS)
        proxy = credentials.proxy_client()
        options = {
            "bind-address": self._address,
            "advertise-address": place.bridge_address,
            "secure-port": place.ports[API_SERVER],
            "etcd-servers": f"http://127.0.0.1:{place.ports[ETCD]}",
            "tls-cert-file": served.certificate,
            "tls-private-key-file": served.key,
            "client-ca-file": credentials.authority,
            "authentication-config": self._authentication(),
            "token-auth-file": credentials.token_file,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-account-key-file": credentials.accounts.certificate,
            "service-account-signing-key-file": credentials.accounts.key,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-cluster-ip-range": SERVICE_ADDRESSES,
            "kubelet-certificate-authority": credentials.authority,
            "kubelet-client-certificate": kubelets.certificate,
            "kubelet-client-key": kubelets.key,
            "kubelet-preferred-address-types": "InternalIP",
            "requestheader-client-ca-file": credentials.proxy_authority,
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": proxy.certificate,
            "proxy-client-key-file": proxy.key,
            "allow-privileged": "true",
            # Nobody routes Services here, and Services that name a host outside cannot be called otherwise.
            "enable-aggregator-routing": "true" if self._calls_pods else "false",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        self._processes.start(API_SERVER, [self._programs / API_SERVER, *words])
        self._processes.wait(API_SERVER, lambda: _answers(f"{self.url}/readyz", self._credentials.authority))

    def _authentication(self) -> Path:
        """Let nobody in without a credential, but to ask whether the server is well and which it is."""
        paths = [{"path": path} for path in ("/healthz", "/livez", "/readyz", "/version")]
        config = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "anonymous": {"enabled": True, "conditions": paths},
        }
        path = self._place.directory / "authentication.yaml"
        path.write_bytes(msgspec.yaml.encode(config))
        return path

    def _controller_options(self) -> list[str]:
        return [
            *self._client_options(CONTROLLERS),
            f"--service-account-private-key-file={self._credentials.accounts.key}",
            f"--root-ca-file={self._credentials.authority}",
            f"--cluster-signing-cert-file={self._credentials.signer.certificate}",
            f"--cluster-signing-key-file={self._credentials.signer.key}",
            "--use-service-account-credentials",
            "--enable-hostpath-provisioner=false",
        ]

    def _client_options(self, name: str) -> list[str]:
        kubeconfig = self._credentials.kubeconfig(name, self.url, user=f"system:{name}")
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--secure-port={self._place.ports[name]}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ]

    def _start(self, name: str, *options: str) -> None:
        self._processes.start(name, [self._programs / name, *options])
        self._processes.wait(name, lambda: _answers(f"https://127.0.0.1:{self._place.ports[name]}/healthz", None))


def make_bridge(place: Place) -> None:
    """Make the bridge that joins this machine and the cluster's nodes, with this machine's address on it."""
    for words in (
        ("link", "add", place.name, "type", "bridge"),
        ("address", "add", f"{place.bridge_address}/23", "dev", place.name),
        ("link", "set", place.name, "up"),
    ):
        subprocess.run(["ip", *words], check=True)


def _answers(url: str, authority: Path | None = None) -> bool:
    """Tell whether a health check answers 200. Without an authority, a certificate is not looked at."""
    trust = ssl.create_default_context(cafile=authority)
    if authority is None:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
