"""The Node object, its Lease and its CSINode: how the cluster knows that this node is there and what it can do.

The Lease is renewed every ten seconds. The Node's status is written when something of it changes, and every five
minutes in any case, as by kubelet. A server that is away is waited for.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from headrace.clock import Clock, boot_id, format_micro_time
from headrace.cluster.backoff import Backoff
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import AlreadyExists, HeadraceError, NotFound
from headrace.node.config import NodeConfig
from headrace.node.drivers import VolumeDriver
from headrace.spec.conditions import set_condition
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import CSI_NODE, LEASE, NODE
from headrace.spec.names import NODE_LEASE_NAMESPACE
from headrace.telemetry import logger

HEARTBEAT_FAILED = "node.heartbeat_failed"
NODE_REGISTERED = "node.registered"

RENEW_EVERY_S = 10.0
LEASE_S = 40
_STATUS_EVERY_S = 300.0
_RETRY = Backoff(first_s=1.0, cap_s=RENEW_EVERY_S)
_DISK_LEAST_FREE = 0.05

VERSION = importlib.metadata.version("headrace")

_log = logger(component="heartbeat")


class Heartbeat:
    """Registers one node and keeps it alive.


    Args:
        say: told why the cluster does not hear of the node; an empty text when it does.
        images: returns what `status.images` shows.
    """

    def __init__(
        self,
        config: NodeConfig,
        cluster: Cluster,
        drivers: Mapping[str, VolumeDriver],
        clock: Clock,
        *,
        say: Callable[[str], None] = lambda _: None,
        images: Callable[[], Sequence[Json]] = list,
    ) -> None:
        self.told_ready = anyio.Event()
        self._say = say
        self._config = config
        self._cluster = cluster
        self._drivers = drivers
        self._clock = clock
        self._images = images
        self._ready: tuple[bool, str, str] = (False, "WorldUnreachable", "The node's world has not answered yet.")
        self._changed = anyio.Event()
        self._written: Json = {}
        self._written_at = float("-inf")
        self._renewed_at = float("-inf")
        self._conditions: list[Json] = []
        self._is_registered = False

    def set_ready(self, ready: bool, reason: str, message: str) -> None:
        """Say whether pods can run here now; written at once when it differs."""
        if self._ready != (ready, reason, message):
            self._ready = (ready, reason, message)
            self._changed.set()

    def changed(self) -> None:
        """Something of the node's status has changed: write it at once."""
        self._changed.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        failures = 0
        while True:
            pause_s = RENEW_EVERY_S
            try:
                await self.beat()
                self._say("")
                failures = 0
            except HeadraceError as error:
                failures += 1
                self._say(str(error))
                _log.warning(HEARTBEAT_FAILED, node=self._config.name, error=str(error))
                pause_s = _RETRY.delay_s(failures)
            with anyio.move_on_after(pause_s):
                await self._changed.wait()

    async def beat(self) -> None:
        """Renew the Lease, and write of Node and CSINode what has changed. Idempotent.

        Raises:
            HeadraceError: the API server could not be told; beat again.
        """
        self._changed = anyio.Event()
        if not self._is_registered:
            await self._register()
        if anyio.current_time() - self._renewed_at >= LEASE_S:
            self._written = {}  # the node may have been called unreachable meanwhile: say anew how it is
        await self._write_status()
        await self._renew()

    async def _register(self) -> None:
        config = self._config
        meta: Json = {"labels": config.all_labels, "annotations": dict(config.annotations)}
        network = {"podCIDR": config.pod_network, "podCIDRs": [config.pod_network]} if config.pod_network else {}
        spec: Json = {**network, "taints": list(config.taints)}
        # A node that exists keeps its taints and its cordon: those are the operator's by now.
        ref, changes = Ref("", config.name), {"metadata": meta}
        if config.registers:
            node = await self._ensure(NODE, ref, {"metadata": meta, "spec": spec}, changes)
        else:
            node = await self._known(ref, changes)
        self._conditions = list(node.status.get("conditions") or [])
        owner = {"apiVersion": "v1", "kind": "Node", "name": config.name, "uid": node.uid}
        drivers = [
            {"name": d.name, "nodeID": config.name, "topologyKeys": ["kubernetes.io/hostname"]}
            for d in sorted(self._drivers.values(), key=lambda d: d.name)
        ]
        csi_node: Json = {"metadata": {"ownerReferences": [owner]}, "spec": {"drivers": drivers}}
        await self._ensure(CSI_NODE, Ref("", config.name), csi_node, csi_node)
        self._written, self._is_registered = {}, True
        _log.info(NODE_REGISTERED, node=config.name, drivers=[d["name"] for d in drivers])

    async def _known(self, ref: Ref, changes: Json) -> Doc[Any]:
        try:
            return await self._cluster.patch(NODE, ref, MergePatch(changes))
        except NotFound as error:
            raise NotFound(
                f"Node {ref.name} is not in the cluster: somebody has deleted it, and only an operator can make it again.",
                hint="Let it join again.",
            ) from error

    async def _ensure(self, kind: Kind[Any], ref: Ref, body: Json, changes: Json) -> Doc[Any]:
        """Make the object, or make `changes` to the one there is."""
        meta = {**body.get("metadata", {}), "name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}
        try:
            return await self._cluster.create(
                kind, {"apiVersion": kind.api_version, "kind": kind.name, **body, "metadata": meta}
            )
        except AlreadyExists:
            return await self._cluster.patch(kind, ref, MergePatch(changes))

    async def _write_status(self) -> None:
        status = self._status()
        is_old = anyio.current_time() - self._written_at >= _STATUS_EVERY_S
        if status == self._written and not is_old:
            return
        now = self._clock.now()
        beating = [
            {**condition, "lastHeartbeatTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")} for condition in self._conditions
        ]
        try:
            await self._cluster.patch(
                NODE,
                Ref("", self._config.name),
                MergePatch({"status": {**status, "conditions": beating}}),
                subresource="status",
            )
        except NotFound:
            self._is_registered = False
            raise
        self._written, self._written_at = status, anyio.current_time()
        if self._ready[0]:
            self.told_ready.set()

    def _status(self) -> Json:
        ready, reason, message = self._ready
        now = self._clock.now()
        low_disk = _is_disk_low(self._config)
        told = (
            ("MemoryPressure", False, "KubeletHasSufficientMemory", ""),
            ("DiskPressure", low_disk, "KubeletHasDiskPressure" if low_disk else "KubeletHasNoDiskPressure", ""),
            ("PIDPressure", False, "KubeletHasSufficientPID", ""),
            ("Ready", ready, reason, message),
        )
        for name, value, why, sentence in told:
            self._conditions = set_condition(self._conditions, name, "True" if value else "False", why, sentence, now)
        bare = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in self._conditions]
        return {
            "conditions": bare,
            "capacity": dict(self._config.capacity),
            "allocatable": self._config.offered,
            "addresses": [
                {"type": "InternalIP", "address": self._config.host_ip},
                {"type": "Hostname", "address": self._config.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._config.port}},
            "images": list(self._images()),
            "declaredFeatures": list(_FEATURES),
            "nodeInfo": _node_info(),
        }

    async def _renew(self) -> None:
        now = format_micro_time(self._clock.now())
        spec: Json = {"holderIdentity": self._config.name, "leaseDurationSeconds": LEASE_S, "renewTime": now}
        ref = Ref(NODE_LEASE_NAMESPACE, self._config.name)
        try:
            await self._cluster.patch(LEASE, ref, MergePatch({"spec": spec}))
        except NotFound:
            await self._ensure(LEASE, ref, {"metadata": {}, "spec": {**spec, "acquireTime": now}}, {"spec": spec})
        self._renewed_at = anyio.current_time()


_FEATURES = ("ExtendWebSocketsToKubelet",)
"""What API servers may count on (KEP-5328): WebSockets of commands and ports come as they are, unmade into SPDY."""


def _node_info() -> Json:
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "bootID": boot_id(),
        "containerRuntimeVersion": f"headrace://{VERSION}",
        "kernelVersion": platform.release(),
        "kubeletVersion": f"v1.36.0-headrace-{VERSION}",
        "kubeProxyVersion": "",
        "machineID": "",
        "operatingSystem": "linux",
        "osImage": _os_name(),
        "systemUUID": "",
    }


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _is_disk_low(config: NodeConfig) -> bool:
    disk = os.statvfs(config.directory if config.directory.exists() else "/")
    return disk.f_blocks > 0 and disk.f_bavail / disk.f_blocks < _DISK_LEAST_FREE
