"""How one Dataset's FUSE client is run, as a value: rendered once, used by injection, by probes and by the CSI driver.

A `Client` is what profile and runtime say after they were merged; a `ResolvedDataset` adds which objects of the
namespace it needs. Neither knows where the client will run: that is the mount mode's business (`data.modes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.errors import InvalidSpec
from headrace.spec.kind import Json
from headrace.spec.names import MOUNT_DIRECTORY, RUNTIME_MOUNT_ROOT, RUNTIME_TYPE_THIN

# File systems that the kernel mounts itself: there is no FUSE connection whose descriptor could be handed over.
KERNEL_FILE_SYSTEMS: Mapping[str, str] = {
    "nfs": "a FUSE client such as fuse-nfs, or an S3 gateway with rclone",
    "nfs4": "a FUSE client such as fuse-nfs, or an S3 gateway with rclone",
    "ceph": "ceph-fuse with fileSystemType ceph-fuse",
    "cifs": "rclone with its smb backend",
    "smb3": "rclone with its smb backend",
    "lustre": "an S3 or HTTP gateway with rclone",
    "beegfs": "an S3 or HTTP gateway with rclone",
}


def data_directory(namespace: str, name: str) -> str:
    """Return where a client sees its data volume. Fluid's own target path, so that images find what they expect."""
    return f"{RUNTIME_MOUNT_ROOT}/{RUNTIME_TYPE_THIN}/{namespace}/{name}/thin-fuse"


def target_path(namespace: str, name: str) -> str:
    """Return `targetPath`: one directory beneath the data volume, because a sidecar whose volume itself is a dead
    FUSE mount can never be started again (docs/design.md, section 5, recovery)."""
    return f"{data_directory(namespace, name)}/{MOUNT_DIRECTORY}"


@dataclass(frozen=True, kw_only=True)
class ClientTools:
    """What Headrace brings into a client's container, which differs between this machine and a real cluster.

    Args:
        served: argv of the start-up probe "served and listed"; the path to look at is appended.
        path: PATH of the client when its profile sets none; empty leaves the image's own.
        stand_in_places: files that the stand-in covers besides being in `STAND_IN_DIRECTORY`: libfuse calls its
            compiled-in path. Only files that exist in the client's root may be named where the node cannot make them.
        device_place: an empty file of the socket volume shown as `/dev/fuse`, which libfuse wants to open before it
            asks fusermount3; empty shows none.
        start_deadline_s: a client that has not served by then is restarted, then backed off.
        user: uid and gid of the sidecar.
        flush_s: how much longer than the app a sidecar that writes may live.
    """

    served: tuple[str, ...] = ("python", "-m", "headrace.fuse.served")
    path: str = ""
    stand_in_places: tuple[str, ...] = ("/usr/bin/fusermount3", "/bin/fusermount")
    device_place: str = ""
    start_deadline_s: int = 120
    user: int = 65534
    flush_s: int = 15


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A directory for the client's cache. `size` is a quantity or empty; `in_memory` counts it as memory."""

    path: str
    size: str = ""
    in_memory: bool = False


@dataclass(frozen=True, kw_only=True)
class Client:
    """Profile and runtime, merged. Kubernetes shapes stay raw JSON, so that no field is lost.

    Args:
        image: with its tag; `host` is the machine's own root.
        env: in order; names are unique.
        options: the runtime's and the profile's, for MOUNT_OPTIONS.
        volumes: only those that `volume_mounts` name.
        materialise: argv that copies everything into targetPath and ends; empty where the profile has none.
    """

    profile: str
    file_system_type: str
    image: str
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Json, ...] = ()
    ports: tuple[Json, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    resources: Json = field(default_factory=dict)
    volumes: tuple[Json, ...] = ()
    volume_mounts: tuple[Json, ...] = ()
    liveness_probe: Json | None = None
    readiness_probe: Json | None = None
    pre_stop: Json | None = None
    caches: tuple[Cache, ...] = ()
    materialise: tuple[str, ...] = ()

    def mount_options(self, *, read_only: bool) -> str:
        """Return MOUNT_OPTIONS: sorted, so that the same client is the same text every time; `ro` is never lost."""
        options = {**self.options, "ro": ""} if read_only else dict(self.options)
        return ",".join(f"{key}={value}" if value else key for key, value in sorted(options.items()))


@dataclass(frozen=True, kw_only=True)
class ResolvedDataset:
    """A claim's Dataset and all that a pod of its namespace needs to mount it.

    Args:
        claim: the PersistentVolumeClaim that pods name.
        config_map: holds `config.json`.
        secrets: Secrets of the namespace, each shown as files under `/etc/fluid/secrets/<secret>`.
        read_only: nobody may write, whatever the pod asks.
    """

    namespace: str
    name: str
    claim: str
    client: Client
    config_map: str
    secrets: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def data_directory(self) -> str:
        return data_directory(self.namespace, self.name)

    @property
    def target_path(self) -> str:
        return target_path(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def require_image(dataset: ResolvedDataset) -> None:
    """Refuse a client that has no image; `image: host` needs a command, because a machine has no entry point."""
    client = dataset.client
    if not client.image:
        raise InvalidSpec(
            f"Dataset {dataset} has no client to run: its profile {client.profile} names no image.",
            hint=f"Set spec.fuse.image of ThinRuntimeProfile {client.profile}.",
        )
    if client.image == "host" and not client.command:
        raise InvalidSpec(
            f"Dataset {dataset} has no client to run: its profile {client.profile} says image host, which has no "
            "entry point of its own, and no command.",
            hint=f"Set spec.fuse.command of ThinRuntimeProfile {client.profile}.",
        )
