"""Profile and runtime become one `Client`, by Fluid's rules and without its defects.

Profile first, runtime second. Replaced where the runtime says something: image with its tag, pull policy, command,
args, probes, preStop. Added, the runtime winning on equal names: env, ports, volumes, volumeMounts, pull secrets.
Key by key: resources, options. Kept from the profile although Fluid loses it: `ro`, whatever order maps come in, and
errors in volumes, which are raised here and not logged. Neither input is ever written to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.data.client import Cache, Client
from headrace.errors import Denied, InvalidSpec
from headrace.spec.kind import Json
from headrace.spec.names import FUSE_CACHE_DIRECTORY, MATERIALISE_ANNOTATION

HOST_IMAGE = "host"
_NO_RUNTIME: Json = {}


def merge_client(profile: Json, runtime: Json = _NO_RUNTIME) -> Client:
    """Return the client that ThinRuntimeProfile `profile` and ThinRuntime `runtime` (whole objects) describe together.

    Raises:
        InvalidSpec: they contradict themselves; the sentence names object, field and cure.
        Denied: the runtime asks for what only a profile may give.
    """
    name = str(profile["metadata"]["name"])
    ours, theirs = profile.get("spec") or {}, runtime.get("spec") or {}
    base, over = ours.get("fuse") or {}, theirs.get("fuse") or {}
    label = f"ThinRuntime {(runtime.get('metadata') or {}).get('name', '')}"
    refuse_host_paths(theirs.get("volumes") or [], label)
    volumes, mounts = _volumes(ours, theirs, base, over, profile=name, runtime=label)
    return Client(
        profile=name,
        file_system_type=str(ours.get("fileSystemType", "")),
        image=_image(base, over, profile=name, runtime=label),
        image_pull_policy=over.get("imagePullPolicy") or base.get("imagePullPolicy") or "",
        image_pull_secrets=_pull_secrets(ours, base, theirs, over),
        command=tuple(over.get("command") or base.get("command") or ()),
        args=tuple(over.get("args") or base.get("args") or ()),
        env=_by("name", base.get("env"), over.get("env")),
        ports=_by("containerPort", base.get("ports"), over.get("ports")),
        options={**(base.get("options") or {}), **(over.get("options") or {})},
        resources=_resources(base.get("resources") or {}, over.get("resources") or {}),
        volumes=volumes,
        volume_mounts=mounts,
        liveness_probe=over.get("livenessProbe") or base.get("livenessProbe"),
        readiness_probe=over.get("readinessProbe") or base.get("readinessProbe"),
        pre_stop=_pre_stop(over, label) or _pre_stop(base, f"ThinRuntimeProfile {name}"),
        caches=_caches(theirs.get("tieredstore") or {}),
        materialise=_materialise(profile, name),
    )


def refuse_host_paths(volumes: Iterable[Json], owner: str) -> None:
    """Refuse directories of the node in what a tenant writes: only the platform's profiles may name them."""
    for volume in volumes:
        if "hostPath" in volume:
            raise Denied(
                f"{owner} asks for the node's directory {volume['hostPath'].get('path')} as volume "
                f"{volume.get('name')}, which only a ThinRuntimeProfile may give.",
                hint="Use an emptyDir, or have the platform's operator put the volume into the profile.",
            )


def overridden(runtime: Json) -> list[str]:
    """Return the fields by which a runtime changes what is run, not only how: paths such as `spec.fuse.image`."""
    spec = runtime.get("spec") or {}
    fuse = spec.get("fuse") or {}
    fields = [f"spec.fuse.{key}" for key in ("image", "imageTag", "command", "args", "volumeMounts") if fuse.get(key)]
    return [*fields, "spec.volumes"] if spec.get("volumes") else fields


def _image(base: Json, over: Json, *, profile: str, runtime: str) -> str:
    """A runtime's image comes with its own tag: Fluid would glue the profile's tag to it."""
    source, owner = (over, runtime) if over.get("image") else (base, f"ThinRuntimeProfile {profile}")
    image = str(source.get("image") or "")
    tag = str(over.get("imageTag") or source.get("imageTag") or "")
    if not tag or not image or image == HOST_IMAGE:
        return image
    if ":" in image.rpartition("/")[2] or "@" in image:
        raise InvalidSpec(
            f"{owner} says its image's tag twice: in image {image} and in imageTag {tag}.", hint="Say it in one place."
        )
    return f"{image}:{tag}"


def _volumes(
    ours: Json, theirs: Json, base: Json, over: Json, *, profile: str, runtime: str
) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """Return the volumes that are mounted, and the mounts; a mount without its volume is an error."""
    volumes = {str(volume["name"]): volume for volume in _by("name", ours.get("volumes"), theirs.get("volumes"))}
    mounts = _by("mountPath", base.get("volumeMounts"), over.get("volumeMounts"))
    for mount in mounts:
        if mount.get("name") not in volumes:
            owner = runtime if mount in (over.get("volumeMounts") or []) else f"ThinRuntimeProfile {profile}"
            raise InvalidSpec(
                f"{owner} mounts volume {mount.get('name')} at {mount.get('mountPath')}, and there is no such volume.",
                hint=f"Add it to spec.volumes; there are: {', '.join(volumes) or 'none'}.",
            )
    used = dict.fromkeys(str(mount["name"]) for mount in mounts)
    return tuple(volumes[name] for name in used), mounts


def _by(key: str, *lists: Iterable[Json] | None) -> tuple[Json, ...]:
    """Return the lists one after another; a later item replaces an earlier one with the same key, in its place."""
    merged: dict[Any, Json] = {}
    for items in lists:
        for item in items or ():
            merged[item.get(key)] = item
    return tuple(merged.values())


def _pull_secrets(*sources: Json) -> tuple[str, ...]:
    names = [str(secret.get("name")) for source in sources for secret in source.get("imagePullSecrets") or []]
    return tuple(dict.fromkeys(names))


def _resources(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    merged = {part: {**(base.get(part) or {}), **(over.get(part) or {})} for part in ("requests", "limits")}
    return {part: amounts for part, amounts in merged.items() if amounts}


def _pre_stop(fuse: Json, owner: str) -> Json | None:
    lifecycle = fuse.get("lifecycle") or {}
    if lifecycle.get("postStart"):
        raise InvalidSpec(
            f"{owner} has a lifecycle.postStart, and only preStop is allowed.",
            hint="Put what it does into the image's entry point.",
        )
    pre_stop: Json | None = lifecycle.get("preStop")
    return pre_stop


def _caches(tiered_store: Json) -> tuple[Cache, ...]:
    """Every path of every level is a directory of the sidecar's own; without any there is one at a fixed place."""
    caches = []
    for level in tiered_store.get("levels") or []:
        paths = [path.strip() for path in str(level.get("path") or "").split(",") if path.strip()]
        sizes = [size.strip() for size in str(level.get("quotaList") or level.get("quota") or "").split(",")]
        for number, path in enumerate(paths):
            size = sizes[number] if number < len(sizes) else sizes[-1]
            caches.append(Cache(path=path, size=size, in_memory=level.get("mediumtype") == "MEM"))
    return tuple(caches) or (Cache(path=FUSE_CACHE_DIRECTORY),)


def _materialise(profile: Json, name: str) -> tuple[str, ...]:
    text = (profile["metadata"].get("annotations") or {}).get(MATERIALISE_ANNOTATION)
    if not text:
        return ()
    try:
        argv = json.loads(text)
    except ValueError:
        argv = None
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise InvalidSpec(
            f"Annotation {MATERIALISE_ANNOTATION} of ThinRuntimeProfile {name} is not a JSON list of words: {text!r}.",
            hint='Write it as ["program", "argument"].',
        )
    return tuple(argv)
