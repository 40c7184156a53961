"""The client's container, the same wherever it runs: what profile and runtime say, on Fluid's contract.

The contract (docs/design.md, section 5): `/etc/fluid/config/config.json`, secrets as
files under `/etc/fluid/secrets/<secret>`, `FLUID_RUNTIME_TYPE/NS/NAME`, `MOUNT_POINT`, `MOUNT_OPTIONS`. The container
holds no privilege at all: it passes Pod Security *restricted*.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.data.client import Cache, ClientTools, ResolvedDataset
from headrace.spec.kind import Json
from headrace.spec.names import (
    ENV_MOUNT_OPTIONS,
    ENV_MOUNT_POINT,
    ENV_RUNTIME_NAME,
    ENV_RUNTIME_NAMESPACE,
    ENV_RUNTIME_TYPE,
    FUSE_CONFIG_DIRECTORY,
    FUSE_SECRETS_DIRECTORY,
    RUNTIME_TYPE_THIN,
    STAND_IN_DIRECTORY,
)

_TEMPORARY = "/tmp"
_TOKEN_PLACE = "/var/run/secrets/kubernetes.io/serviceaccount"
_NO_TOKEN = "no-token"
_LABEL_LIMIT = 63


def client_container(
    dataset: ResolvedDataset, *, name: str, read_only: bool, tools: ClientTools, stand_in: bool
) -> Json:
    """Return the client's container without the volume it mounts into: that is the mount mode's.

    Args:
        name: its volumes, from `client_volumes`, are named after it.
        stand_in: the stand-in for fusermount3 is there and comes first on PATH.
    """
    client = dataset.client
    container: Json = {
        "name": name,
        "image": client.image,
        "env": client_env(dataset, read_only=read_only, tools=tools, stand_in=stand_in),
        "volumeMounts": _mounts(dataset, name),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security_context(tools.user),
    }
    if client.image_pull_policy:
        container["imagePullPolicy"] = client.image_pull_policy
    if client.command:
        container["command"] = list(client.command)
    if client.args:
        container["args"] = list(client.args)
    if client.resources:
        container["resources"] = client.resources
    return container


def client_env(dataset: ResolvedDataset, *, read_only: bool, tools: ClientTools, stand_in: bool) -> list[Json]:
    """Return the environment in a stable order; the contract's variables win over the profile's."""
    variables: dict[str, Json] = {
        ENV_RUNTIME_TYPE: _plain(ENV_RUNTIME_TYPE, RUNTIME_TYPE_THIN),
        ENV_RUNTIME_NAMESPACE: _plain(ENV_RUNTIME_NAMESPACE, dataset.namespace),
        ENV_RUNTIME_NAME: _plain(ENV_RUNTIME_NAME, dataset.name),
    }
    own = {str(variable["name"]): variable for variable in dataset.client.env}
    contract = set(variables) | {ENV_MOUNT_POINT, ENV_MOUNT_OPTIONS, "PATH"}
    variables.update({key: variable for key, variable in own.items() if key not in contract})
    variables.setdefault("HOME", _plain("HOME", _TEMPORARY))
    path = str(own.get("PATH", {}).get("value", "")) or tools.path
    if path and stand_in:
        path = f"{STAND_IN_DIRECTORY}:{path}"
    if path:
        variables["PATH"] = _plain("PATH", path)
    variables[ENV_MOUNT_POINT] = _plain(ENV_MOUNT_POINT, dataset.target_path)
    options = dataset.client.mount_options(read_only=read_only or dataset.read_only)
    if options:
        variables[ENV_MOUNT_OPTIONS] = _plain(ENV_MOUNT_OPTIONS, options)
    return list(variables.values())


def client_volumes(dataset: ResolvedDataset, *, name: str) -> list[Json]:
    """Return the volumes that `client_container(name=name)` mounts."""
    volumes: list[Json] = [
        {"name": f"{name}-config", "configMap": {"name": dataset.config_map}},
        {"name": f"{name}-tmp", "emptyDir": {}},
    ]
    volumes += [
        {"name": f"{name}-secret-{index}", "secret": {"secretName": secret}}
        for index, secret in enumerate(dataset.secrets)
    ]
    volumes += [
        {"name": f"{name}-cache-{index}", "emptyDir": _cache_source(cache)}
        for index, cache in enumerate(dataset.client.caches)
    ]
    volumes += [
        {**volume, "name": _own_name(name, index, str(volume["name"]))}
        for index, volume in enumerate(dataset.client.volumes)
    ]
    return volumes


def security_context(user: int) -> Json:
    """Return the only security context a client ever gets."""
    return {
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": user != 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _mounts(dataset: ResolvedDataset, name: str) -> list[Json]:
    mounts: list[Json] = [
        {"name": f"{name}-config", "mountPath": FUSE_CONFIG_DIRECTORY, "readOnly": True},
        {"name": f"{name}-tmp", "mountPath": _TEMPORARY},
        _no_token(name),
    ]
    mounts += [
        {"name": f"{name}-secret-{index}", "mountPath": f"{FUSE_SECRETS_DIRECTORY}/{secret}", "readOnly": True}
        for index, secret in enumerate(dataset.secrets)
    ]
    mounts += [
        {"name": f"{name}-cache-{index}", "mountPath": cache.path} for index, cache in enumerate(dataset.client.caches)
    ]
    names = {
        str(volume["name"]): _own_name(name, index, str(volume["name"]))
        for index, volume in enumerate(dataset.client.volumes)
    }
    own = [{**mount, "name": names[str(mount["name"])]} for mount in dataset.client.volume_mounts]
    return _last_at_each_path([*mounts, *own])


def _no_token(name: str) -> Json:
    """Take the place where the API server mounts the token of the pod's service account into every container.

    That is the user's, and a storage client has no use for it. Mounted by the API server after us it would also be a
    change of the pod that we are asked about again, at the price of a second call for each pod (admission plugin
    `ServiceAccount`, `mountServiceAccountToken`: a container that mounts something there is left alone).
    """
    return {"name": f"{name}-tmp", "mountPath": _TOKEN_PLACE, "subPath": _NO_TOKEN, "readOnly": True}


def _last_at_each_path(mounts: Iterable[Json]) -> list[Json]:
    """Two mounts at one path are refused by the API server; a profile that mounts its own /tmp means it."""
    return list({str(mount["mountPath"]): mount for mount in mounts}.values())


def _own_name(name: str, index: int, volume: str) -> str:
    readable = f"{name}-own-{volume}"
    return readable if len(readable) <= _LABEL_LIMIT else f"{name}-own-{index}"


def _cache_source(cache: Cache) -> Json:
    source: Json = {}
    if cache.in_memory:
        source["medium"] = "Memory"
    if cache.size:
        source["sizeLimit"] = cache.size
    return source


def _plain(name: str, value: str) -> Json:
    return {"name": name, "value": value}
