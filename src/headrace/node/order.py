"""The order by which a world starts one container, built from the pod's spec and what was prepared for it. Pure."""

from __future__ import annotations

import os.path
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node import resources
from headrace.node.expansion import expand_all, expand_strictly
from headrace.node.images import command
from headrace.node.images.accounts import Account
from headrace.node.images.store import Image
from headrace.node.podspec import Container, PodSpec
from headrace.node.volumes.pod_volumes import Source
from headrace.spec.kind import Json

LOG_MAX_BYTES = 10 * 2**20
LOG_MAX_FILES = 5
_SHM_BYTES = 64 * 2**20
_TERMINATION_LOG = "/dev/termination-log"


@dataclass(frozen=True)
class Prepared:
    """What exists on this node for a container about to start."""

    env: Mapping[str, str]
    volumes: Mapping[str, Source]
    hosts: Path
    log: Path
    resolv_conf: str | None
    closed: str
    """A directory of this machine that no container sees, whatever it mounts."""
    root: str | Json
    """What the world calls `root`: this machine, a directory, or one of the container's own."""
    image: Image | None
    """The OCI image that the root was made of."""
    who: Account


def start_order(pod: PodSpec, container: Container, attempt: int, prepared: Prepared) -> Json:
    """Return the fields of `container.start`.

    Raises:
        InvalidSpec, NotFound, Unsupported: kubelet's CreateContainerConfigError.
    """
    image = prepared.image
    mounts = [_mount(container, mount, prepared) for mount in container.mounts]
    mounts += [mask for mount in mounts for mask in _masks(mount, prepared.closed)]
    mounts.append({"target": "/etc/hosts", "source": str(prepared.hosts), "read_only": False})
    order: Json = {
        "pod": pod.uid,
        "container": container.name,
        "attempt": attempt,
        "argv": _argv(container, image, prepared.env),
        "env": dict(prepared.env),
        "cwd": str(container.raw.get("workingDir") or (command.working_directory(image.config) if image else "/")),
        "root": prepared.root,
        "mounts": mounts,
        "masks": [prepared.closed],
        "read_only_root": image is None or bool(container.security_context.get("readOnlyRootFilesystem")),
        "uid": prepared.who.uid,
        "gid": prepared.who.gid,
        "shm_bytes": _SHM_BYTES,
        "log": {"path": str(prepared.log), "max_bytes": LOG_MAX_BYTES, "max_files": LOG_MAX_FILES},
        "limits": resources.world_limits(container),
        "oom_score_adj": resources.oom_score_adj(pod),
        "termination_message_path": str(container.raw.get("terminationMessagePath") or _TERMINATION_LOG),
    }
    if prepared.resolv_conf is not None:
        order["resolv_conf"] = prepared.resolv_conf
    return order


def _argv(container: Container, image: Image | None, env: Mapping[str, str]) -> list[str]:
    """Only the pod's own words are expanded: `$(NAME)` in an image's is the image's business."""
    said = expand_all(container.raw.get("command") or [], env), expand_all(container.raw.get("args") or [], env)
    argv = command.argv(image.config, *said) if image else [*said[0], *said[1]]
    if not argv:
        raise InvalidSpec(
            f"{container.path} has no command, and image {container.raw.get('image') or 'host'} has none of its own.",
            hint="Set command.",
        )
    return argv


def _mount(container: Container, mount: Json, prepared: Prepared) -> Json:
    name, path = str(mount["name"]), f"{container.path}.volumeMounts[{mount.get('mountPath')}]"
    source = prepared.volumes.get(name)
    if source is None:
        raise NotFound(f"{path} names the volume {name!r}, which the pod does not have.")
    propagation = str(mount.get("mountPropagation") or ("HostToContainer" if source.heals else "None"))
    if propagation not in {"None", "HostToContainer"}:
        raise Unsupported(f"{path}.mountPropagation {propagation} needs privilege, which no pod has on this node.")
    result: Json = {
        "target": posixpath.normpath(str(mount["mountPath"])),
        "source": source.path,
        "read_only": bool(mount.get("readOnly")) or source.read_only,
        "propagation": "HostToContainer" if propagation == "HostToContainer" else "none",
        "recursive": True,
    }
    sub_path = _sub_path(mount, prepared.env, path)
    if sub_path:
        result["sub_path"] = sub_path
    return result


def _sub_path(mount: Json, env: Mapping[str, str], path: str) -> str:
    """Return the path inside the volume, relative and without `..`; the world opens it beneath the volume only."""
    written = str(mount.get("subPath") or "")
    if mount.get("subPathExpr"):
        written = expand_strictly(str(mount["subPathExpr"]), env, f"{path}.subPathExpr")
    if not written:
        return ""
    if written.startswith("/") or ".." in written.split("/"):
        raise InvalidSpec(f"{path}: subPath {written!r} must be relative and may not contain '..'.")
    return posixpath.normpath(written)


def _masks(mount: Json, closed: str) -> Sequence[Json]:
    """A bind of a directory that contains `closed` gets an empty directory in its place."""
    source = os.path.join(str(mount["source"]), str(mount.get("sub_path") or ""))
    inner = os.path.relpath(closed, source)
    if inner == "." or inner.startswith(".."):
        return ()
    target = posixpath.join(str(mount["target"]), inner)
    return ({"target": target, "tmpfs": {"mode": 0o555, "size_bytes": 4096}, "read_only": True},)
