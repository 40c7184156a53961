"""The objects that a storage engineer and an ML engineer write, for the storage of `tests.storage`."""

from __future__ import annotations

from tests.storage import Bucket, JuiceFsVolume

from headrace.spec.kind import Json, Ref
from headrace.spec.names import CSI_DRIVER

_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}}


def profile(name: str, client: str, **fuse: object) -> Json:
    """Return the ThinRuntimeProfile `name` of one of our clients: juicefs or rclone."""
    return command_profile(name, client, ["python", "-m", f"headrace.fuse.clients.{client}"], **fuse)


def command_profile(name: str, file_system_type: str, command: list[str], **fuse: object) -> Json:
    """Return a ThinRuntimeProfile with any command as its client."""
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "ThinRuntimeProfile",
        "metadata": {"name": name},
        "spec": {
            "fileSystemType": file_system_type,
            "fuse": {"image": "host", "command": command, "resources": _SMALL, **fuse},
        },
    }


def secret(ref: Ref, **data: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "stringData": data,
    }


def volume(name: str, claim: Ref, mode: str, attributes: dict[str, str], *, secret_name: str = "") -> Json:
    """Return a PersistentVolume of the own driver, kept for `claim`."""
    reference = {"nodePublishSecretRef": {"name": secret_name, "namespace": claim.namespace}} if secret_name else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": [mode],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": claim.namespace, "name": claim.name},
            "csi": {"driver": CSI_DRIVER, "volumeHandle": name, "volumeAttributes": attributes, **reference},
        },
    }


def claim(ref: Ref, mode: str, volume_name: str, *, storage_class: str = "") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": {
            "accessModes": [mode],
            "storageClassName": storage_class,
            **({"volumeName": volume_name} if volume_name else {}),
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def juicefs_claim(ref: Ref, storage: JuiceFsVolume, mode: str = "ReadOnlyMany", **options: str) -> list[Json]:
    """Return Secret, volume and claim of a JuiceFS volume; profile `juicefs` must be there."""
    name = f"{ref.namespace}-{ref.name}"
    attributes = {"profile": "juicefs", "mountPoint": f"juicefs://{storage.name}"}
    attributes |= {f"option.{key}": value for key, value in options.items()}
    return [
        secret(ref, metaurl=storage.metaurl),
        volume(name, ref, mode, attributes, secret_name=ref.name),
        claim(ref, mode, name),
    ]


def s3_claim(
    ref: Ref, bucket: Bucket, *, endpoint: str = "", profile_name: str = "rclone", secret_key: str = "", **options: str
) -> list[Json]:
    """Return Secret, volume and claim of a bucket; the profile must be there."""
    name = f"{ref.namespace}-{ref.name}"
    attributes = {"profile": profile_name, "mountPoint": f"s3://{bucket.name}"}
    attributes |= {"option.endpoint": endpoint or bucket.endpoint, "option.provider": "Rclone"}
    attributes |= {f"option.{key}": value for key, value in options.items()}
    keys = {"access-key": bucket.access_key, "secret-key": secret_key or bucket.secret_key}
    return [
        {**secret(ref), "stringData": keys},
        volume(name, ref, "ReadOnlyMany", attributes, secret_name=ref.name),
        claim(ref, "ReadOnlyMany", name),
    ]
