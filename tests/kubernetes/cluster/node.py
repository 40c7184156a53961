"""A node: containerd and a kubelet in namespaces of their own, with a network for pods and two images."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
from tests.kubernetes.cluster import cgroups, images, programs
from tests.kubernetes.cluster.credentials import Credentials
from tests.kubernetes.cluster.namespaces import Namespaces
from tests.kubernetes.cluster.place import MOST_NODES, Place
from tests.kubernetes.cluster.processes import Processes

SOCKET = "/run/containerd/containerd.sock"
TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2", "hostname": "hostname"}


def missing() -> str:
    """Return what this machine lacks to run a node, as a sentence; empty when nothing."""
    lacking = [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    return f"A node needs {', '.join(lacking)}." if lacking else ""


class Node:
    """One node of a place, by its number. The API server must run."""

    def __init__(self, place: Place, index: int, processes: Processes, credentials: Credentials) -> None:
        self.name = f"{place.name}-{index}"
        self._place = place
        self._index = index
        self._processes = processes
        self._credentials = credentials
        self._directory = place.directory / self.name
        self._namespaces = Namespaces(self.name, self._directory, processes)

    def start(self, server: str) -> None:
        """Start it and leave it to the API server at `server` to find it Ready."""
        control, node = programs.control_programs(), programs.node_programs()
        self._directory.mkdir()
        cgroups.make(self._place.name)
        self._namespaces.make(control / "pause")
        self._connect()
        self._start_containerd(control, node)
        self._start_kubelet(control, server)

    def import_image(self, archive: Path) -> None:
        """Let pods use the images of a Docker archive, with `imagePullPolicy: Never` or a tag that is not `latest`."""
        ctr = programs.node_programs() / "bin" / "ctr"
        self._namespaces.run(ctr, "--address", SOCKET, "--namespace", "k8s.io", "images", "import", archive)

    def run(self, *words: str | Path) -> str:
        """Run a command within and return what it prints; raises with its errors when it fails."""
        return self._namespaces.run(*words)

    def start_process(self, name: str, *words: str | Path, **environment: str) -> None:
        """Start a process within, recorded as `name`, and leave it running."""
        self._processes.start(name, self._namespaces.command(*words), environment=environment)

    def stop_kubelet(self) -> list[str]:
        """Kill the kubelet, and only it; returns the words that start it again."""
        return self._processes.kill(self._kubelet)

    def start_kubelet(self, words: list[str]) -> None:
        """Start the kubelet again."""
        self._processes.start(self._kubelet, words)

    @property
    def _kubelet(self) -> str:
        return f"{self.name}-kubelet"

    def _connect(self) -> None:
        place, outside = self._place, f"{self._place.name}-{self._index}"
        pid = str(self._namespaces.pid)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _ip("link", "set", outside, "master", place.name, "up")
        _ip("route", "replace", place.pod_addresses(self._index), "via", place.node_address(self._index))
        inside = [
            ("link", "set", "lo", "up"),
            ("address", "add", f"{place.node_address(self._index)}/23", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", place.bridge_address),
        ]
        others = [other for other in range(MOST_NODES) if other != self._index]
        inside += [("route", "add", place.pod_addresses(each), "via", place.node_address(each)) for each in others]
        for words in inside:
            self._namespaces.run("ip", *words)
        self._namespaces.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    # -- containerd --------------------------------------------------------------------------------------------------

    def _start_containerd(self, control: Path, node: Path) -> None:
        networks = self._directory / "networks"
        networks.mkdir()
        (networks / "10-pods.conflist").write_bytes(msgspec.json.encode(self._network()))
        config = self._directory / "containerd.toml"
        config.write_text(self._containerd_config(node, networks))
        name = f"{self.name}-containerd"
        path = f"{(node / 'bin').resolve()}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.start_process(name, node / "bin" / "containerd", "--config", config, PATH=path)
        self._processes.wait(name, self._containerd_answers)
        for archive in (images.pause(self._directory, control), images.busybox(self._directory, node / "bin")):
            self.import_image(archive)

    def _containerd_answers(self) -> bool:
        ctr = programs.node_programs() / "bin" / "ctr"
        return not subprocess.run(
            self._namespaces.command(ctr, "--address", SOCKET, "version"), capture_output=True
        ).returncode

    def _network(self) -> dict[str, Any]:
        pods = self._place.pod_addresses(self._index)
        addresses = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}

    def _containerd_config(self, node: Path, networks: Path) -> str:
        # restrict_oom_score_adj: a root without CAP_SYS_RESOURCE may not lower it
        return f"""
            version = 2
            root = "/var/lib/containerd"
            state = "/run/containerd"
            [grpc]
            address = "{SOCKET}"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "{images.PAUSE}"
            restrict_oom_score_adj = true
            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "{node / "cni"}"
            conf_dir = "{networks}"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "{self._snapshotter()}"
            default_runtime_name = "runc"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            BinaryName = "{node / "bin" / "runc"}"
        """

    def _snapshotter(self) -> str:
        """Return `overlayfs` where the directory's file system can carry one, such as not an overlay itself."""
        parts = {name: self._directory / "overlay" / name for name in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            part.mkdir(parents=True)
        options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
        try:
            self._namespaces.run("mount", "-t", "overlay", "-o", options, "overlay", parts["merged"])
        except RuntimeError:
            return "native"
        self._namespaces.run("umount", parts["merged"])
        return "overlayfs"

    # -- kubelet -----------------------------------------------------------------------------------------------------

    def _start_kubelet(self, control: Path, server: str) -> None:
        config = self._directory / "kubelet.yaml"
        config.write_bytes(msgspec.yaml.encode(self._kubelet_config()))
        user = f"system:node:{self.name}"
        kubeconfig = self._credentials.kubeconfig(self.name, server, user=user, groups=("system:nodes",))
        words = (
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={self._place.node_address(self._index)}",
        )
        self.start_process(self._kubelet, control / "kubelet", *words)

    def _kubelet_config(self) -> dict[str, Any]:
        address = self._place.node_address(self._index)
        served = self._credentials.server(f"kubelet-{self._index}", address, self.name)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": address,
            "tlsCertFile": str(served.certificate),
            "tlsPrivateKeyFile": str(served.key),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._credentials.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._place.name}",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "protectKernelDefaults": True,  # the namespaces show it what it wants
            "resolvConf": "",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        }


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
