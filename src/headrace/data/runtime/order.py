"""The same client as a `MountOrder`, for a node's CSI driver: it has no pod whose volumes could hold files.

Rendered from the same source as sidecars (`runtime.render`), so that a volume is read by one client everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from headrace.data.client import ClientTools, ResolvedDataset, require_image
from headrace.data.runtime.assemble import Sources, assemble
from headrace.data.runtime.config import ClaimVolume, ClientConfig, secret_path
from headrace.data.runtime.deputy import refuse_overrides
from headrace.data.runtime.render import client_env
from headrace.errors import InvalidSpec, Unsupported
from headrace.fuse.order import MountOrder
from headrace.ids import dns_1035_name
from headrace.spec.kind import Json
from headrace.spec.names import CSI_DRIVER, FUSE_CONFIG_FILE

VOLUME_NAMESPACE = "volumes"
"""Stands for a namespace in the paths of clients that serve a volume and no Dataset."""
_VOLUME_SECRET = "volume"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")

Secrets = Mapping[str, Mapping[str, bytes]]
"""Secret name to its keys and values."""


def order_for_volume(
    volume_id: str,
    attributes: Mapping[str, str],
    profile: Json,
    *,
    secrets: Mapping[str, bytes],
    mount_options: tuple[str, ...] = (),
    read_only: bool = False,
    tools: ClientTools,
) -> MountOrder:
    """Return how to mount a PersistentVolume of the own driver that names a profile and a mount point.

    Args:
        volume_id: the volume's handle.
        attributes: `profile`, `mountPoint`, `option.<key>` (PersistentVolume `spec.csi.volumeAttributes`).
        secrets: of the volume's secret reference; each key becomes an option that names its file.
        mount_options: the volume's own.

    Raises:
        InvalidSpec, Unsupported: naming the volume's attribute or the profile's field, and the cure.
    """
    csi: Json = {"driver": CSI_DRIVER, "volumeHandle": volume_id, "volumeAttributes": dict(attributes)}
    if secrets:
        csi["nodePublishSecretRef"] = {"name": _VOLUME_SECRET}
    volume = ClaimVolume(
        claim=volume_id, csi=csi, mount_options=mount_options, secret_keys=tuple(sorted(secrets)) if secrets else None
    )
    modes = ["ReadOnlyMany" if read_only else "ReadWriteMany"]
    dataset = {
        "metadata": {"namespace": VOLUME_NAMESPACE, "name": dns_1035_name(volume_id)},
        "spec": {"accessModes": modes, "mounts": [{"mountPoint": f"pvc://{volume_id}", "path": "/"}]},
    }
    unrestricted = {**profile, "spec": {**(profile.get("spec") or {}), "restrict": {}}}
    sources = Sources(dataset=dataset, runtime={}, profile=unrestricted, volumes={volume_id: volume})
    resolved, config = assemble(sources)
    name = f"volume {volume_id}"
    return _order(name, resolved, config, {_VOLUME_SECRET: secrets}, mount_options=mount_options, tools=tools)


def order_for_dataset(sources: Sources, *, secrets: Secrets, tools: ClientTools) -> MountOrder:
    """Return how to mount a plain Dataset, whose PersistentVolume names it.

    Args:
        secrets: those of the Dataset's namespace that it names.

    Raises:
        Denied: its ThinRuntime changes what would run on the node.
        InvalidSpec, Unsupported: as `assemble`.
    """
    refuse_overrides(sources.runtime, sources.profile)
    resolved, config = assemble(sources)
    return _order(str(resolved), resolved, config, secrets, mount_options=(), tools=tools)


def _order(
    name: str,
    dataset: ResolvedDataset,
    config: ClientConfig,
    secrets: Secrets,
    *,
    mount_options: tuple[str, ...],
    tools: ClientTools,
) -> MountOrder:
    client = dataset.client
    require_image(dataset)
    if not client.command:
        raise InvalidSpec(
            f"The client of {name} cannot run beside its volume: ThinRuntimeProfile {client.profile} has no command.",
            hint="Set spec.fuse.command to what its image's entry point runs.",
        )
    files = {FUSE_CONFIG_FILE: config.text.encode(), **_secret_files(name, config, secrets)}
    variables = client_env(dataset, read_only=dataset.read_only, tools=tools, stand_in=False)
    env = _plain_env(name, variables, secrets)
    return MountOrder(
        name=name,
        argv=tuple(_expand(word, env) for word in (*client.command, *client.args)),
        env=env,
        files=files,
        target_path=dataset.target_path,
        file_system_type=client.file_system_type,
        read_only=dataset.read_only,
        options=mount_options,
        cache_directories=(*(cache.path for cache in client.caches), *_own_directories(name, dataset)),
    )


def _secret_files(name: str, config: ClientConfig, secrets: Secrets) -> dict[str, bytes]:
    files = {}
    for secret in config.secrets:
        if secret not in secrets:
            raise InvalidSpec(
                f"The client of {name} needs Secret {secret}, which does not exist.", hint=f"Make Secret {secret}."
            )
        files.update({secret_path(secret, key): value for key, value in secrets[secret].items()})
    return files


def _plain_env(name: str, variables: list[Json], secrets: Secrets) -> dict[str, str]:
    """Return variables and values; references to earlier variables are written out as a kubelet would."""
    env: dict[str, str] = {}
    for variable in variables:
        source = variable.get("valueFrom")
        if source is None:
            env[variable["name"]] = _expand(str(variable.get("value", "")), env)
            continue
        reference = source.get("secretKeyRef") or {}
        value = secrets.get(str(reference.get("name")), {}).get(str(reference.get("key")))
        if value is None:
            raise Unsupported(
                f"The client of {name} takes variable {variable['name']} from {', '.join(source)}, which is not to be "
                "had beside a volume.",
                hint="Put the value into a secret option, or a plain variable, of the profile.",
            )
        env[variable["name"]] = value.decode()
    return env


def _expand(text: str, env: Mapping[str, str]) -> str:
    """Write out `$(NAME)`; `$$` is a dollar, and unknown names stay (kubelet, third_party/forked/golang/expansion)."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else env.get(m[1], m[0]), text)


def _own_directories(name: str, dataset: ResolvedDataset) -> list[str]:
    """Return where the profile's own scratch volumes are; other kinds of volumes do not exist outside a pod."""
    volumes = {str(volume["name"]): volume for volume in dataset.client.volumes}
    places = []
    for mount in dataset.client.volume_mounts:
        volume = volumes[str(mount["name"])]
        if "emptyDir" not in volume:
            kind = next((key for key in volume if key != "name"), "unknown")
            raise Unsupported(
                f"ThinRuntimeProfile {dataset.client.profile} mounts the {kind} volume {volume['name']}, which the "
                f"client of {name} cannot have beside its volume.",
                hint="Use an emptyDir, or secret options for files.",
            )
        places.append(str(mount["mountPath"]))
    return places
