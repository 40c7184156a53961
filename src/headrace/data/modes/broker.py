"""Mode `broker`: the client runs without any privilege and asks the node's driver for its mount.

The driver gives the pod two inline volumes: *data*, a small tmpfs in which it mounts, and *socket*, seen by the
sidecar only. Client and app meet in *data*; the app mounts `subPath: ds` of it with HostToContainer, so a mount that
is stacked on top after a crash reaches it (docs/design.md, section 5, recovery). The volumes carry one attribute that
matters, the Dataset's name; the driver believes only what the kubelet says about the pod.
"""

from __future__ import annotations

from headrace.data.client import KERNEL_FILE_SYSTEMS, ClientTools, ResolvedDataset, require_image
from headrace.data.modes.mode import Capabilities, Parts
from headrace.data.runtime.render import client_container, client_volumes
from headrace.errors import InvalidSpec, Unsupported
from headrace.spec.kind import Json
from headrace.spec.names import (
    BROKER_DIRECTORY,
    CSI_ATTRIBUTE_DATASET,
    CSI_ATTRIBUTE_READ_ONLY,
    CSI_ATTRIBUTE_ROLE,
    CSI_DRIVER,
    CSI_ROLE_DATA,
    CSI_ROLE_SOCKET,
    SIDECAR_PREFIX,
    STAND_IN_DIRECTORY,
)

_PROBE_PERIOD_S = 1
_PROBE_TIMEOUT_S = 10
_ALIVE_PERIOD_S = 10
_DEAD_GRACE_S = 2


class Broker:
    """A native sidecar that nothing starts before, and that is served its mount."""

    prefix = SIDECAR_PREFIX

    def check(self, dataset: ResolvedDataset, *, read_only: bool, capabilities: Capabilities) -> None:  # noqa: ARG002
        """Refuse kernel mounts, clusters without native sidecars, and clients without an image."""
        kind = dataset.client.file_system_type
        if kind in KERNEL_FILE_SYSTEMS:
            raise InvalidSpec(
                f"Dataset {dataset} cannot be mounted without privilege: its profile {dataset.client.profile} mounts "
                f"{kind} in the kernel.",
                hint=f"Use a profile with {KERNEL_FILE_SYSTEMS[kind]}, or keep the pod on nodes that have the driver.",
            )
        if not capabilities.native_sidecars:
            raise Unsupported(
                f"Dataset {dataset} needs a native sidecar, and this cluster has none (Kubernetes before 1.29): a job "
                "would never end, and init containers would find no data.",
                hint="Upgrade the cluster, or set the pool's dataAccess.mode to materialise.",
            )
        require_image(dataset)

    def parts(self, dataset: ResolvedDataset, index: int, *, read_only: bool, capabilities: Capabilities) -> Parts:
        """Return the sidecar with its probe, and its volumes."""
        name = f"{self.prefix}{index}"
        tools = capabilities.tools
        container = client_container(dataset, name=name, read_only=read_only, tools=tools, stand_in=True)
        client = dataset.client
        container |= {
            "restartPolicy": "Always",
            "startupProbe": _served(dataset, tools),
            "livenessProbe": client.liveness_probe or _alive(dataset, tools),
        }
        if client.ports:
            container["ports"] = [{k: v for k, v in port.items() if k != "hostPort"} for port in client.ports]
        if client.readiness_probe:
            container["readinessProbe"] = client.readiness_probe
        if client.pre_stop:
            container["lifecycle"] = {"preStop": client.pre_stop}
        container["volumeMounts"] = [*_broker_mounts(dataset, name, tools), *container["volumeMounts"]]
        volumes = [_data(dataset, name, read_only=read_only), _inline(dataset, name, CSI_ROLE_SOCKET)]
        return Parts(
            container=container,
            volumes=(*volumes, *client_volumes(dataset, name=name)),
            data_volume=f"{name}-{CSI_ROLE_DATA}",
            propagation="HostToContainer",
            pull_secrets=client.image_pull_secrets,
        )


def _served(dataset: ResolvedDataset, tools: ClientTools) -> Json:
    """Nothing else may start before this passes: a container over an unserved mount hangs the whole node."""
    return {
        "exec": {"command": [*tools.served, dataset.target_path]},
        "periodSeconds": _PROBE_PERIOD_S,
        "timeoutSeconds": _PROBE_TIMEOUT_S,
        "failureThreshold": max(1, tools.start_deadline_s // _PROBE_PERIOD_S),
    }


def _alive(dataset: ResolvedDataset, tools: ClientTools) -> Json:
    """Restart a client that has outlived its connection: it hung, was cut off, and serves nobody any more.

    It has nothing to flush, so it is not given the pod's whole grace.
    """
    return {
        "exec": {"command": [*tools.served, "--alive", dataset.target_path]},
        "periodSeconds": _ALIVE_PERIOD_S,
        "timeoutSeconds": _PROBE_TIMEOUT_S,
        "failureThreshold": 2,
        "terminationGracePeriodSeconds": _DEAD_GRACE_S,
    }


def _broker_mounts(dataset: ResolvedDataset, name: str, tools: ClientTools) -> list[Json]:
    socket = f"{name}-{CSI_ROLE_SOCKET}"
    mounts: list[Json] = [
        {
            "name": f"{name}-{CSI_ROLE_DATA}",
            "mountPath": dataset.data_directory,
            "mountPropagation": "HostToContainer",
        },
        {"name": socket, "mountPath": BROKER_DIRECTORY, "readOnly": True},
        {"name": socket, "mountPath": STAND_IN_DIRECTORY, "subPath": "bin", "readOnly": True},
    ]
    mounts += [
        {"name": socket, "mountPath": place, "subPath": f"bin/{place.rsplit('/', 1)[-1]}", "readOnly": True}
        for place in tools.stand_in_places
    ]
    if tools.device_place:
        mounts.append({"name": socket, "mountPath": "/dev/fuse", "subPath": tools.device_place, "readOnly": True})
    return mounts


def _data(dataset: ResolvedDataset, name: str, *, read_only: bool) -> Json:
    """Return the data volume. What a client mounts in it is read-only by the driver's word, because a container's own
    `readOnly` does not hold for the mount of a restarted client. The volume itself never is: the client must see a mount
    point that it may use."""
    volume = _inline(dataset, name, CSI_ROLE_DATA)
    if read_only:
        volume["csi"]["volumeAttributes"][CSI_ATTRIBUTE_READ_ONLY] = "true"
    return volume


def _inline(dataset: ResolvedDataset, name: str, role: str) -> Json:
    attributes = {CSI_ATTRIBUTE_DATASET: dataset.name, CSI_ATTRIBUTE_ROLE: role}
    return {"name": f"{name}-{role}", "csi": {"driver": CSI_DRIVER, "volumeAttributes": attributes}}
