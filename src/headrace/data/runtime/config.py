"""`config.json`: what a FUSE client's image reads, exactly as CNCF Fluid writes it.

Source: Fluid `pkg/ddc/thin/type.go` (`Config`) and `transform_config.go`. Secret values are never in it: an option
that is secret holds the path of the file that has the value. Keys are sorted, so that the same Dataset is the same
text, and a changed text is a changed mount.

One addition: a claim of our own driver (`fuse.headrace.io`) says in its volume attributes what is mounted, so its
mount is written out (`juicefs://…` and its options) in place of `pvc://claim`, and images need not know our driver.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.data.client import target_path
from headrace.errors import InvalidSpec, Unsupported
from headrace.spec.kind import Json
from headrace.spec.names import (
    CSI_ATTRIBUTE_MOUNT_POINT,
    CSI_ATTRIBUTE_OPTION_PREFIX,
    CSI_DRIVER,
    FUSE_SECRETS_DIRECTORY,
)

CLAIM_SCHEME = "pvc://"
DATASET_SCHEME = "dataset://"
DEFAULT_ACCESS_MODES = ("ReadOnlyMany",)
HOST_VOLUME_OPTION = "fluid.fuse.hostvolume"
NO_PUBLISH_SECRET = "NotMountNodePublishSecret"
COPY_PUBLISH_SECRET = "CopyNodePublishSecretAndMountIfNotExists"
_MOUNT_OPTIONS_ANNOTATION = "volume.beta.kubernetes.io/mount-options"


@dataclass(frozen=True, kw_only=True)
class ClaimVolume:
    """The bound volume of a claim that a Dataset mounts by `pvc://`.

    Args:
        csi: the PersistentVolume's `spec.csi`.
        secret_keys: of the nodePublishSecretRef's namesake in the Dataset's namespace; None when there is no such
            Secret. Only names of keys, never values.
    """

    claim: str
    csi: Json
    mount_options: tuple[str, ...] = ()
    secret_keys: tuple[str, ...] | None = None

    @property
    def secret(self) -> str:
        """The Secret the native driver publishes with; empty when it needs none."""
        return str((self.csi.get("nodePublishSecretRef") or {}).get("name", ""))


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """The rendered file and the Secrets whose files it names. `notes` are sentences the user ought to read."""

    text: str
    secrets: tuple[str, ...] = ()
    mounts: tuple[Json, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = ()


def claim_volume(claim: str, volume: Json, secret_keys: tuple[str, ...] | None) -> ClaimVolume:
    """Return what a Dataset needs of a PersistentVolume; raises InvalidSpec when it is not a CSI volume."""
    spec = volume.get("spec") or {}
    csi = spec.get("csi")
    if not csi:
        kinds = [
            key for key in spec if key in {"hostPath", "local", "nfs", "iscsi", "fc", "rbd", "cephfs", "flexVolume"}
        ]
        raise InvalidSpec(
            f"Claim {claim} is bound to PersistentVolume {volume['metadata']['name']}, which is a "
            f"{kinds[0] if kinds else 'non-CSI'} volume, and only CSI volumes say what a FUSE client must mount.",
            hint="Leave the claim to its own nodes (remove the label), or make a Dataset that names the storage itself.",
        )
    options = spec.get("mountOptions") or []
    if not options:
        annotation = ((volume.get("metadata") or {}).get("annotations") or {}).get(_MOUNT_OPTIONS_ANNOTATION, "")
        options = [option for option in annotation.split(",") if option]
    return ClaimVolume(claim=claim, csi=csi, mount_options=tuple(options), secret_keys=secret_keys)


def claims_of(dataset: Json) -> list[str]:
    """Return the claims a Dataset mounts by `pvc://`."""
    mounts = (dataset.get("spec") or {}).get("mounts") or []
    points = [str(mount.get("mountPoint", "")) for mount in mounts]
    return [point.removeprefix(CLAIM_SCHEME) for point in points if point.startswith(CLAIM_SCHEME)]


def access_modes(dataset: Json) -> list[str]:
    """Return the Dataset's access modes; read-only for many where it says none, as Fluid has it."""
    return list((dataset.get("spec") or {}).get("accessModes") or DEFAULT_ACCESS_MODES)


def is_read_only(dataset: Json, volumes: Mapping[str, ClaimVolume]) -> bool:
    """Tell whether nobody may write: no access mode lets anybody, or everything mounted is read-only."""
    if not any(mode.startswith("ReadWrite") for mode in access_modes(dataset)):
        return True
    mounts = (dataset.get("spec") or {}).get("mounts") or []
    if mounts and all(mount.get("readOnly") for mount in mounts):
        return True
    return any(volume.csi.get("readOnly") or "ro" in volume.mount_options for volume in volumes.values())


def render_config(
    dataset: Json, *, runtime_options: Mapping[str, str], volumes: Mapping[str, ClaimVolume], secret_policy: str
) -> ClientConfig:
    """Return `config.json` of a Dataset (whole object).

    Args:
        runtime_options: the ThinRuntime's own `spec.fuse.options`; the profile's are in MOUNT_OPTIONS only, as in Fluid.
        volumes: by claim, for each `pvc://` mount.
        secret_policy: the profile's `nodePublishSecretPolicy`.

    Raises:
        InvalidSpec, Unsupported: naming the mount and the cure.
    """
    meta, spec = dataset["metadata"], dataset.get("spec") or {}
    mounts = spec.get("mounts") or []
    _check_mounts(f"{meta['namespace']}/{meta['name']}", mounts)
    published = {claim: keys for claim, v in volumes.items() if (keys := _publish_secret(v, secret_policy)) is not None}
    secrets = dict.fromkeys(volumes[claim].secret for claim in published)
    rendered = [_mount(mount, spec, volumes, published, secrets) for mount in mounts]
    config: dict[str, Any] = {
        "mounts": rendered,
        "targetPath": target_path(meta["namespace"], meta["name"]),
        "accessModes": access_modes(dataset),
    }
    if runtime_options:
        config["runtimeOptions"] = dict(runtime_options)
    if volumes:
        config["persistentVolumeAttrs"] = {claim: volume.csi for claim, volume in volumes.items()}
        config["persistentVolumeMountOptions"] = {claim: list(v.mount_options) for claim, v in volumes.items()}
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    notes = tuple(
        _missing_secret(volume) for claim, volume in volumes.items() if volume.secret and claim not in published
    )
    shown = notes if secret_policy != NO_PUBLISH_SECRET else ()
    return ClientConfig(text=text, secrets=tuple(secrets), mounts=tuple(rendered), notes=shown)


def secret_path(secret: str, key: str) -> str:
    """Return where a client finds one key of a Secret."""
    return f"{FUSE_SECRETS_DIRECTORY}/{secret}/{key}"


def _mount(
    mount: Json,
    spec: Json,
    volumes: Mapping[str, ClaimVolume],
    published: Mapping[str, tuple[str, ...]],
    secrets: dict[str, None],
) -> Json:
    options = {**(spec.get("sharedOptions") or {}), **(mount.get("options") or {})}
    for option in [*(spec.get("sharedEncryptOptions") or []), *(mount.get("encryptOptions") or [])]:
        reference = (option.get("valueFrom") or {}).get("secretKeyRef") or {}
        if not reference.get("name") or not reference.get("key"):
            raise InvalidSpec(
                f"Secret option {option.get('name')} of mount {mount.get('mountPoint')} names no Secret and key.",
                hint="Set valueFrom.secretKeyRef.name and .key.",
            )
        secrets[reference["name"]] = None
        options[option["name"]] = secret_path(reference["name"], reference["key"])
    result = {
        key: value for key, value in mount.items() if key != "encryptOptions" and value not in (None, "", False, {})
    }
    point = str(mount.get("mountPoint", ""))
    volume = volumes.get(point.removeprefix(CLAIM_SCHEME)) if point.startswith(CLAIM_SCHEME) else None
    if volume is not None and volume.csi.get("driver") == CSI_DRIVER:
        result["mountPoint"], own = own_mount(volume, published.get(volume.claim, ()))
        options = {**own, **options}
    if options:
        result["options"] = options
    return result


def own_mount(volume: ClaimVolume, secret_keys: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return mount point and options that a volume of our own driver spells out.

    Weakest first: its mount options, its attributes, and each key of its Secret, whose value is the file that holds it.
    """
    attributes = volume.csi.get("volumeAttributes") or {}
    point = str(attributes.get(CSI_ATTRIBUTE_MOUNT_POINT, ""))
    if not point:
        raise InvalidSpec(
            f"The volume of claim {volume.claim} does not say what to mount: its volumeAttributes have no "
            f"{CSI_ATTRIBUTE_MOUNT_POINT}.",
            hint=f"Set spec.csi.volumeAttributes.{CSI_ATTRIBUTE_MOUNT_POINT} of the PersistentVolume, such as "
            "juicefs://name.",
        )
    words = (word.partition("=") for word in volume.mount_options)
    options = {key.strip(): value for key, _, value in words}
    options |= {
        key.removeprefix(CSI_ATTRIBUTE_OPTION_PREFIX): str(value)
        for key, value in attributes.items()
        if key.startswith(CSI_ATTRIBUTE_OPTION_PREFIX)
    }
    return point, {**options, **{key: secret_path(volume.secret, key) for key in secret_keys}}


def _publish_secret(volume: ClaimVolume, policy: str) -> tuple[str, ...] | None:
    """Return the keys of the Secret to show, or None to show none.

    A Secret of another namespace is never copied here: whoever may read this namespace could read it then.
    """
    if not volume.secret or policy == NO_PUBLISH_SECRET:
        return None
    if policy == COPY_PUBLISH_SECRET:
        raise Unsupported(
            f"The volume of claim {volume.claim} needs Secret {volume.secret}, and nodePublishSecretPolicy "
            f"{policy} would copy it across namespaces, which Headrace never does.",
            hint=f"Make a Secret {volume.secret} with credentials for this namespace, and use "
            "MountNodePublishSecretIfExists.",
        )
    return volume.secret_keys


def _missing_secret(volume: ClaimVolume) -> str:
    namespace = (volume.csi.get("nodePublishSecretRef") or {}).get("namespace") or "default"
    return (
        f"The volume's own driver reads Secret {namespace}/{volume.secret}; the claim's namespace has no Secret "
        f"{volume.secret}, and Secrets are never copied, so the client runs without it. Make one there if it needs it."
    )


def _check_mounts(dataset: str, mounts: list[Json]) -> None:
    if not mounts:
        raise InvalidSpec(f"Dataset {dataset} mounts nothing.", hint="Add a mount to spec.mounts.")
    claims = [m for m in mounts if str(m.get("mountPoint", "")).startswith(CLAIM_SCHEME)]
    if len(claims) > 1:
        raise InvalidSpec(f"Dataset {dataset} mounts more than one claim.", hint="Make one Dataset a claim.")
    for mount in mounts:
        point = str(mount.get("mountPoint", ""))
        if point.startswith(CLAIM_SCHEME) and "/" in point.removeprefix(CLAIM_SCHEME):
            raise Unsupported(
                f"Mount {point} of Dataset {dataset} names a path inside a claim, which is not supported.",
                hint="Mount the claim whole and use subPath in the pod.",
            )
        if point.startswith(DATASET_SCHEME):
            raise Unsupported(
                f"Mount {point} of Dataset {dataset} refers to another Dataset, which is not supported in this version.",
                hint="Name the storage itself.",
            )
        if HOST_VOLUME_OPTION in (mount.get("options") or {}):
            raise Unsupported(
                f"Option {HOST_VOLUME_OPTION} of mount {point} of Dataset {dataset} would give a directory of the node "
                "to whoever may write a Dataset, which Headrace does not.",
                hint="Have the platform's operator put the volume into the ThinRuntimeProfile.",
            )
    for key in ("name", "path"):
        seen = [str(mount[key]) for mount in mounts if mount.get(key)]
        double = next((value for value in seen if seen.count(value) > 1), None)
        if double is not None:
            raise InvalidSpec(f"Dataset {dataset} has two mounts with {key} {double}.", hint="Give each its own.")
