"""A cluster of this machine's own, in one directory: started, given nodes, and ended so that nothing of it is left."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
from tests.kubernetes.cluster import cgroups, node, programs
from tests.kubernetes.cluster.control import API_SERVER, Control
from tests.kubernetes.cluster.credentials import Credentials
from tests.kubernetes.cluster.node import Node
from tests.kubernetes.cluster.place import MOST_NODES, Place, choose
from tests.kubernetes.cluster.processes import Processes


class OwnCluster:
    """The cluster in `directory`, which need not run yet. Another process may have started it.

    Args:
        calls_pods: the API server calls webhooks and aggregated APIs at the pods of their Services.
    """

    def __init__(self, directory: Path, *, calls_pods: bool = False) -> None:
        self._calls_pods = calls_pods
        self._directory = directory
        self._place_file = directory / "place.json"
        self._processes = Processes(directory / "processes")
        self.kubeconfig = directory / "credentials" / "admin.kubeconfig"

    @classmethod
    def kept(cls, kubeconfig: Path) -> OwnCluster | None:
        """Return the cluster that a kubeconfig was written by, as `python -m tests.kubernetes.cluster up` keeps one; None
        for any other."""
        directory = kubeconfig.absolute().parent.parent
        own = cls(directory)
        return own if own.kubeconfig == kubeconfig.absolute() and own.runs else None

    @property
    def runs(self) -> bool:
        """Whether its API server runs."""
        return self._processes.find(API_SERVER) is not None

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that were started."""
        return [each.name for each in self._started_nodes()]

    @property
    def credentials(self) -> Credentials:
        """The cluster's secrets."""
        return Credentials(self._directory / "credentials")

    def start(self) -> None:
        """Start the control plane; a node is added with `add_node`. Raises `Missing` where this machine cannot."""
        programs.control_programs()
        self._directory.mkdir(parents=True)
        self._place_file.write_bytes(msgspec.json.encode(choose(self._directory)))
        self._control().start()

    def add_node(self) -> str:
        """Start one more node and return its name; the API server finds it Ready a little later.

        Raises `Missing` where this machine cannot run one.
        """
        if os.geteuid() != 0:
            raise programs.Missing("A node needs root. Nothing that runs pods is tested. Run the tests as root.")
        if lacks := node.missing():
            raise programs.Missing(f"{lacks} Nothing that runs pods is tested.")
        programs.node_programs()
        control = self._control()
        control.start_scheduler()
        made = self._node(len(self._started_nodes()))
        made.start(control.url)
        return made.name

    def start_scheduler(self) -> None:
        """Start the scheduler, for nodes that others bring. Idempotent."""
        self._control().start_scheduler()

    def import_image(self, archive: Path) -> None:
        """Let pods on all nodes use the images of a Docker archive."""
        for each in self._started_nodes():
            each.import_image(archive)

    @property
    def address(self) -> str:
        """This machine's address in the cluster's network, where nodes and pods find what runs beside the cluster."""
        return self._place().bridge_address

    def control_process(self, name: str = API_SERVER) -> psutil.Process:
        """Return a running process of the control plane by its program, such as `control.API_SERVER`."""
        found = self._processes.find(name)
        assert found is not None, f"{name} does not run"
        return found

    def start_on_node(self, node: str, name: str, *words: str | Path, **environment: str) -> Callable[[], str]:
        """Start a process in a node's namespaces, which ends with the cluster; returns what tells what it has printed."""
        self._started(node).start_process(name, *words, **environment)
        return self._processes.log(name).read_text

    def on_node(self, name: str, *words: str | Path) -> str:
        """Run a command in a node's namespaces and return what it prints; raises with its errors when it fails."""
        return self._started(name).run(*words)

    def stop_kubelet(self, name: str) -> list[str]:
        """Kill a node's kubelet, and only it; returns the words that start it again."""
        return self._started(name).stop_kubelet()

    def start_kubelet(self, name: str, words: list[str]) -> None:
        """Start a node's kubelet again."""
        self._started(name).start_kubelet(words)

    def stop(self) -> None:
        """End everything and remove it, the directory too; raises RuntimeError when something is left. Idempotent."""
        if not self._place_file.exists():
            return
        place = self._place()
        self._processes.kill_all()
        if place.name in psutil.net_if_addrs():
            subprocess.run(["ip", "link", "delete", place.name], check=True)
        cgroups.remove(place.name)
        shutil.rmtree(self._directory)
        if left := leftovers(place):
            raise RuntimeError("The cluster left behind: " + "; ".join(left))

    def _place(self) -> Place:
        return msgspec.json.decode(self._place_file.read_bytes(), type=Place)

    def _control(self) -> Control:
        return Control(self._place(), self._processes, self.credentials, calls_pods=self._calls_pods)

    def _node(self, index: int) -> Node:
        return Node(self._place(), index, self._processes, self.credentials)

    def _started(self, name: str) -> Node:
        return next(each for each in self._started_nodes() if each.name == name)

    def _started_nodes(self) -> list[Node]:
        names = self._processes.names()
        nodes = [self._node(index) for index in range(MOST_NODES)]
        return [each for each in nodes if each.name in names]


def leftovers(place: Place) -> list[str]:
    """Return what still is of a cluster that has ended: processes, mounts, network interfaces, cgroups."""
    directory = str(place.directory)
    found = [f"cgroup {path}" for path in cgroups.find(place.name)]
    found += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if directory in line]
    found += [f"interface {name}" for name in psutil.net_if_addrs() if name.startswith(place.name)]
    found += [f"process {process.pid} {process.name()}" for process in users(place.directory)]
    return found


def users(directory: Path) -> list[psutil.Process]:
    """Return the processes, but this one, that were started with a directory or something in it among their words."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(directory) in word for word in process.cmdline()):
                found.append(process)
    return found
