"""The driver as a node plugin, over gRPC, in a mount namespace of its own: with real mounts and a real client.

What a kubelet adds to this is in tests/kubernetes/csi.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from tests.integration.fuse.conftest import IS_ROOT, NOBODY, children_of, wait_until
from tests.integration.fuse.node_plugin import CONTEXT, PERSISTENT, VOLUME

from headrace.csi.rpc.check import check
from headrace.csi.rpc.schema import csi_pb2
from headrace.fuse.mounts import Mount, beneath, read_mounts, stack_at

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.root,
    pytest.mark.skipif(not IS_ROOT, reason="the driver of a real node is root"),
]

_BIN = Path(sys.executable).parent
# A client's container: what it sees of its volumes, then no capability and no way to any.
_CONTAINER = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/headrace/bin /run/headrace/fuse /run/volume
mount --rbind {pods}/data/mount /run/volume; mount --make-rslave /run/volume
mount --bind {pods}/socket/mount /run/headrace/fuse; mount --bind {pods}/socket/mount/bin /run/headrace/bin
exec setpriv --reuid={user} --regid={user} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
  env -i PATH=/run/headrace/bin:{path}:/usr/bin:/bin HOME=/tmp "$@"
"""


class Plugin:
    """The driver's process, and a kubelet's calls."""

    def __init__(self, directory: Path, programs: Path, *options: str) -> None:
        self.directory = directory
        self._options = options
        self.socket = f"unix://{directory}/csi.sock"
        self._programs = programs
        self._started: list[subprocess.Popen[bytes]] = []
        self._holder = self._start("unshare", "--mount", "--propagation", "shared", "sleep", "600")
        wait_until(lambda: self._namespace() != os.readlink("/proc/self/ns/mnt"), "the node has its mount namespace")
        self.driver = self.start()

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv)
        self._started.append(process)
        return process

    def _namespace(self) -> str:
        return os.readlink(f"/proc/{self._holder.pid}/ns/mnt")

    def enter(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-m", "--", *argv]

    def start(self) -> subprocess.Popen[bytes]:
        """Start the driver in the node's namespace; returns when it is ready."""
        script = str(Path(__file__).with_name("node_plugin.py"))
        root = str(Path(__file__).parents[3])
        environment = ["env", f"PYTHONPATH={root}:{root}/src"]
        words = [*environment, sys.executable, script, str(self.directory), str(self._programs), *self._options]
        process = self._start(*self.enter(*words))
        wait_until(lambda: check(self.socket, 5.0) == "", "the driver is ready", deadline_s=120)
        return process

    def call(self, method: str, request: Any) -> Any:
        described = csi_pb2.DESCRIPTOR.services_by_name["Node"].methods_by_name[method]
        with grpc.insecure_channel(self.socket) as channel:
            send: Any = channel.unary_unary(
                f"/csi.v1.Node/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(described.output_type).FromString,
            )
            return send(request, timeout=20)

    def target(self, role: str) -> str:
        return f"{self.directory}/pods/u1/{role}/mount"

    def publish(self, role: str, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "volume_id": f"id-{role}",
            "target_path": self.target(role),
            "volume_capability": csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume()),
            "volume_context": {**CONTEXT, "role": role},
        }
        self.call("NodePublishVolume", csi_pb2.NodePublishVolumeRequest(**{**fields, **changes}))

    def unpublish(self, role: str) -> None:
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=f"id-{role}", target_path=self.target(role))
        self.call("NodeUnpublishVolume", request)

    def place(self, name: str) -> str:
        """Return a place of the pod that mounts PersistentVolumes."""
        return f"{self.directory}/pods/u2/{name}/mount"

    def share(self, name: str, **changes: Any) -> None:
        """Publish the PersistentVolume."""
        os.makedirs(os.path.dirname(self.place(name)), exist_ok=True)  # as a kubelet does
        fields: dict[str, Any] = {
            "volume_id": VOLUME,
            "target_path": self.place(name),
            "volume_capability": csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume()),
            "volume_context": PERSISTENT,
        }
        self.call("NodePublishVolume", csi_pb2.NodePublishVolumeRequest(**{**fields, **changes}))

    def unshare(self, name: str) -> None:
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=VOLUME, target_path=self.place(name))
        self.call("NodeUnpublishVolume", request)

    def shown(self, name: str) -> list[Mount]:
        return stack_at(self.place(name), self.mounts())

    def reads(self, name: str) -> bytes:
        words = self.enter("cat", f"{self.place(name)}/file")
        return subprocess.run(words, capture_output=True, timeout=20).stdout

    def notes(self) -> list[Path]:
        """Return what the driver keeps of shared mounts."""
        return list((self.directory / "driver" / "shared").glob("*"))

    def condition(self, role: str = "data") -> Any:
        request = csi_pb2.NodeGetVolumeStatsRequest(volume_id=f"id-{role}", volume_path=self.target(role))
        return self.call("NodeGetVolumeStats", request).volume_condition

    def client(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a client in a container of its own, without any privilege."""
        script = _CONTAINER.format(pods=f"{self.directory}/pods/u1", user=NOBODY, path=_BIN)
        nest = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "slave")
        return self._start(*self.enter(*nest, "sh", "-c", script, "sh", *argv))

    def serve(self) -> subprocess.Popen[bytes]:
        """Start a client of the directory `storage`, once its two volumes are published; returns when it serves."""
        before = len(self.clients_mounts())
        words = ("rclone", "mount", "--config", "/dev/null", "--allow-non-empty", f"{self.directory}/storage")
        client = self.client(*words, "/run/volume/ds")
        wait_until(lambda: len(self.clients_mounts()) == before + 1, "the client has its mount")
        wait_until(lambda: not self.condition().abnormal and self.read().returncode == 0, "it is served")
        return client

    def mounts(self) -> list[Mount]:
        """Return all mounts beneath the driver's and the pods' directories."""
        return beneath(str(self.directory), read_mounts(str(self._holder.pid)))

    def clients_mounts(self) -> list[Mount]:
        return stack_at(f"{self.target('data')}/ds", self.mounts())

    def read(self) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.enter("cat", f"{self.target('data')}/ds/file"), capture_output=True, timeout=20)

    def close(self) -> None:
        for role in ("data", "socket"):
            self.unpublish(role)
        assert self.mounts() == []
        assert list((self.directory / "driver" / "inline").glob("pairs/*")) == []
        for process in reversed(self._started):
            for pid in (*children_of(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if process is self.driver else signal.SIGKILL)
            process.wait(20)


@pytest.fixture
def plugin(programs: Path) -> Iterator[Plugin]:
    with tempfile.TemporaryDirectory(prefix="hr-fuse-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        (Path(place) / "storage").mkdir()
        (Path(place) / "storage" / "file").write_text("content")
        made = Plugin(Path(place), programs)
        yield made
        made.close()


def _kill(client: subprocess.Popen[bytes]) -> None:
    for pid in children_of(client.pid):
        os.kill(pid, signal.SIGKILL)
    client.wait(20)


def test_a_client_is_served_heals_and_leaves_nothing(plugin: Plugin) -> None:
    for role in ("socket", "data", "socket", "data"):
        plugin.publish(role)
    assert len(plugin.mounts()) == 2, "publishing is idempotent"
    client = plugin.serve()
    assert plugin.read().stdout == b"content"
    [mount] = plugin.clients_mounts()
    assert mount.type == "fuse.rclone"
    _kill(client)
    wait_until(lambda: plugin.condition().abnormal, "the driver says so")
    assert "has ended" in plugin.condition().message
    plugin.serve()
    assert plugin.read().stdout == b"content"
    for role in ("socket", "data", "data", "socket"):
        plugin.unpublish(role)
    assert plugin.mounts() == []
    assert not os.path.exists(plugin.target("data"))


def test_a_killed_driver_takes_its_broker_along_and_the_next_one_knows_everything(plugin: Plugin) -> None:
    for role in ("data", "socket"):
        plugin.publish(role)
    client = plugin.serve()
    [broker] = _brokers(plugin)
    plugin.driver.send_signal(signal.SIGKILL)
    wait_until(lambda: _brokers(plugin) == [], "the broker has ended with it")
    assert plugin.read().stdout == b"content", "readers notice nothing"
    _kill(client)
    words = ("rclone", "mount", "--config", "/dev/null", "--allow-non-empty", f"{plugin.directory}/storage")
    plugin.client(*words, "/run/volume/ds")  # waits for the broker
    plugin.driver = plugin.start()
    wait_until(lambda: len(plugin.clients_mounts()) == 2 and plugin.read().stdout == b"content", "it heals")
    assert _brokers(plugin) != [broker]


def test_a_killed_broker_is_started_again(plugin: Plugin) -> None:
    plugin.publish("data")
    [broker] = _brokers(plugin)
    os.kill(broker, signal.SIGKILL)
    wait_until(lambda: _brokers(plugin) not in ([], [broker]), "another broker runs")
    assert check(plugin.socket) == ""
    assert not plugin.condition().abnormal


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        (
            {"volume_context": {**CONTEXT, "csi.storage.k8s.io/pod.uid": "u2"}},
            "PERMISSION_DENIED",
            "is not a place of pod u2",
        ),
        ({"volume_context": {**CONTEXT, "csi.storage.k8s.io/pod.name": "r"}}, "PERMISSION_DENIED", "no pod ns/r"),
        ({"volume_context": {**CONTEXT, "mountOptions": "suid"}}, "PERMISSION_DENIED", "also sets mountOptions"),
        ({"volume_context": {**CONTEXT, "dataset": "e"}}, "PERMISSION_DENIED", "has no volume of"),
    ],
)
def test_what_is_forged_is_refused_and_leaves_nothing(
    plugin: Plugin, changes: dict[str, Any], code: str, says: str
) -> None:
    plugin.publish("socket")
    before = plugin.mounts()
    with pytest.raises(grpc.RpcError) as failed:
        plugin.publish("data", **changes)
    assert isinstance(failed.value, grpc.Call)
    assert failed.value.code().name == code
    assert says in failed.value.details()
    assert plugin.mounts() == before


def test_pods_share_what_one_client_mounts_and_none_takes_it_along(plugin: Plugin) -> None:
    for role in ("data", "socket"):
        plugin.publish(role)
    client = plugin.serve()
    for name in ("one", "two", "one"):
        plugin.share(name)
    assert [plugin.reads(name) for name in ("one", "two")] == [b"content"] * 2
    _kill(client)
    plugin.serve()
    assert [len(plugin.shown(name)) for name in ("one", "two")] == [2, 2]
    assert [plugin.reads(name) for name in ("one", "two")] == [b"content"] * 2
    plugin.unshare("one")
    assert plugin.shown("one") == []
    assert plugin.reads("two") == b"content", "a stack that goes from one place stays at the others"
    assert len(plugin.clients_mounts()) == 2
    plugin.driver.send_signal(signal.SIGKILL)
    wait_until(lambda: _brokers(plugin) == [], "the broker has ended with it")
    assert plugin.reads("two") == b"content"
    plugin.driver = plugin.start()
    plugin.share("three")
    assert plugin.reads("three") == b"content"
    for name in ("two", "three", "three"):
        plugin.unshare(name)
    assert [plugin.shown(name) for name in ("two", "three")] == [[], []]
    assert plugin.notes() == []
    assert plugin.read().stdout == b"content", "the client ends when its pod does"


def test_the_mount_of_a_client_that_was_replaced_goes_on_top_of_the_dead_one(plugin: Plugin) -> None:
    for role in ("data", "socket"):
        plugin.publish(role)
    client = plugin.serve()
    for name in ("one", "two"):
        plugin.share(name)
    _kill(client)
    for role in ("data", "socket"):
        plugin.unpublish(role)
        plugin.publish(role)
    assert plugin.reads("one") == b""
    plugin.serve()
    for name in ("one", "two"):
        wait_until(lambda n=name: plugin.reads(n) == b"content", "the new mount is shown")  # type: ignore[misc]
        assert len(plugin.shown(name)) == 2
    for name in ("one", "two"):
        plugin.unshare(name)


def test_a_volume_that_nobody_serves_is_refused_in_time_and_forgotten_with_its_place(plugin: Plugin) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        plugin.share("one")
    assert isinstance(failed.value, grpc.Call)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Dataset ns/d was not served within 5 s" in failed.value.details()
    assert plugin.shown("one") == []
    assert len(plugin.notes()) == 1
    os.rmdir(os.path.dirname(plugin.place("one")))
    wait_until(lambda: plugin.notes() == [], "a place that is no more is forgotten")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"volume_id": "forged"}, "no claim that is bound to a PersistentVolume"),
        ({"volume_context": {**PERSISTENT, "dataset": "e"}}, "has other volumeAttributes"),
        ({"volume_context": {**PERSISTENT, "csi.storage.k8s.io/pod.name": "p"}}, "its uid is u1, not u2"),
    ],
)
def test_a_volume_that_is_not_the_pods_is_refused(plugin: Plugin, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        plugin.share("one", **changes)
    assert isinstance(failed.value, grpc.Call)
    assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert says in failed.value.details()
    assert plugin.notes() == []


def _brokers(plugin: Plugin) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"headrace.fuse.broker" in words and str(plugin.directory).encode() in b" ".join(words):
                found.append(int(entry.name))
    return found
