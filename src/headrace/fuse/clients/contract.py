"""What a FUSE client's container is told to mount, read from the files and variables that Fluid gives its images.

`/etc/fluid/config/config.json` has `mounts[]`, `targetPath`, `runtimeOptions`, `accessModes`, `persistentVolumeAttrs`
and `persistentVolumeMountOptions`; `MOUNT_OPTIONS` has the profile's options. An option that is secret holds the path
of a file beneath `/etc/fluid/secrets`, whose content is the value. A `pvc://claim` stands for a CSI volume: its
attributes `mountPoint` and `option.<key>`, and every file of its secret, are what a mount says otherwise.

Precedence of options, weakest first: MOUNT_OPTIONS, runtimeOptions, the volume's mount options, the volume's
attributes and secret, the mount's own.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CONFIG_FILE = "/etc/fluid/config/config.json"
SECRETS_DIRECTORY = "/etc/fluid/secrets"
RELOCATED_VARIABLE = "HEADRACE_RELOCATED"
OPTIONS_VARIABLE = "MOUNT_OPTIONS"
_CLAIM = "pvc://"
_OPTION_PREFIX = "option."


def words(text: str) -> frozenset[str]:
    """Return the words of a text, for tables of option names."""
    return frozenset(text.split())


# Words of mount(8) that say nothing to a FUSE client, or that the broker decides.
_IGNORED = words(
    "defaults rw auto noauto user nouser users _netdev nofail exec async sync atime noatime relatime strictatime "
    "nodiratime lazytime dev nodev suid nosuid allow_other allow_root default_permissions nonempty"
)


class Unusable(Exception):
    """What was asked cannot be mounted: one sentence with what, why and what to try."""


@dataclass(frozen=True)
class Mount:
    """One thing to mount.

    Args:
        point: `juicefs://name`, `s3://bucket/prefix`, …; empty where a volume's secret alone says what it is.
        path: where beneath the target, when there are several mounts.
        options: complete, with the content of secret files in place of their paths.
    """

    point: str
    path: str
    options: Mapping[str, str]
    read_only: bool = False


@dataclass(frozen=True)
class Contract:
    """All that a client has to mount, and where."""

    target_path: str
    mounts: tuple[Mount, ...]
    read_only: bool
    source: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def only(self, client: str) -> Mount:
        """Return the one mount there is; raises Unusable where there are several."""
        if len(self.mounts) != 1:
            raise Unusable(
                f"{client} mounts one thing, and the Dataset has {len(self.mounts)} mounts. Make a Dataset of each."
            )
        return self.mounts[0]


def read_contract(
    *,
    config_file: str = CONFIG_FILE,
    secrets_directory: str = SECRETS_DIRECTORY,
    environment: Mapping[str, str] = os.environ,
) -> Contract:
    """Return what to mount; raises Unusable with a sentence when it cannot be known."""
    try:
        with open(here(config_file, environment), encoding="utf-8") as file:
            config = json.load(file)
        target, raw_mounts = here(str(config["targetPath"]), environment), list(config["mounts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{config_file} cannot be read as a client's configuration: {error!r}.") from error
    if not raw_mounts:
        raise Unusable(f"{config_file} has no mounts. Add one to the Dataset's spec.mounts.")
    words = split_options(environment.get(OPTIONS_VARIABLE, ""))
    common = {**words, **{k: str(v) for k, v in (config.get("runtimeOptions") or {}).items()}}
    modes = config.get("accessModes") or []
    read_only = "ro" in common or (bool(modes) and not any(str(mode).startswith("ReadWrite") for mode in modes))
    secrets = Secrets(secrets_directory, environment)
    mounts = tuple(_mount(raw, config, common, secrets) for raw in raw_mounts)
    return Contract(
        target_path=target,
        mounts=mounts,
        read_only=read_only or all(mount.read_only for mount in mounts),
        source=config,
    )


def here(path: str, environment: Mapping[str, str]) -> str:
    """Return where `path` really is: elsewhere only where containers have no file system of their own.

    There the place of every mount is in `HEADRACE_RELOCATED`, a JSON object from what was asked to what there is.
    """
    relocated: dict[str, str] = json.loads(environment.get(RELOCATED_VARIABLE) or "{}")
    targets = [target for target in relocated if path == target or path.startswith(f"{target}/")]
    if not targets:
        return path
    longest = max(targets, key=len)
    return relocated[longest] + path.removeprefix(longest)


@dataclass(frozen=True)
class Secrets:
    """Where the secrets' files are: as the contract names them, and as they can be opened."""

    directory: str
    environment: Mapping[str, str]

    def holds(self, path: str) -> bool:
        return path.startswith(self.directory.rstrip("/") + "/")

    def open_at(self, path: str) -> str:
        return here(path, self.environment)


def split_options(text: str) -> dict[str, str]:
    """Return `a=b,c` as {"a": "b", "c": ""}."""
    pairs = (word.partition("=") for word in text.split(",") if word)
    return {key.strip(): value for key, _, value in pairs}


def check_options(options: Iterable[str], known: Collection[str], client: str) -> None:
    """Raise Unusable for an option the client does not have, naming the nearest it has."""
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(sorted(known))}."
            raise Unusable(f"{client} has no option {name!r}.{guess}")


def _mount(raw: Mapping[str, Any], config: Mapping[str, Any], common: Mapping[str, str], secrets: Secrets) -> Mount:
    point = str(raw.get("mountPoint", ""))
    inherited: dict[str, str] = {}
    read_only = bool(raw.get("readOnly"))
    if point.startswith(_CLAIM):
        claim = point.removeprefix(_CLAIM)
        csi = (config.get("persistentVolumeAttrs") or {}).get(claim)
        if csi is None:
            raise Unusable(
                f"The volume of claim {claim} is not known: config.json has no persistentVolumeAttrs for it."
            )
        words = (config.get("persistentVolumeMountOptions") or {}).get(claim) or []
        inherited, point = _of_volume(csi, secrets)
        inherited = {**split_options(",".join(words)), **inherited}
        read_only = read_only or bool(csi.get("readOnly"))
    own = {str(key): str(value) for key, value in (raw.get("options") or {}).items()}
    options = {**common, **inherited, **own}
    read_only = read_only or "ro" in options
    plain = {key: value for key, value in options.items() if key not in _IGNORED and key != "ro"}
    return Mount(
        point=point,
        path=str(raw.get("path") or raw.get("name") or "").strip("/"),
        options={key: _value(key, value, secrets) for key, value in plain.items()},
        read_only=read_only,
    )


def _of_volume(csi: Mapping[str, Any], secrets: Secrets) -> tuple[dict[str, str], str]:
    """Return options and mount point of a CSI volume: what its attributes spell out, and each file of its secret."""
    attributes = csi.get("volumeAttributes") or {}
    options = {k.removeprefix(_OPTION_PREFIX): str(v) for k, v in attributes.items() if k.startswith(_OPTION_PREFIX)}
    secret = str((csi.get("nodePublishSecretRef") or {}).get("name", ""))
    place = os.path.join(secrets.directory, secret)
    if secret and os.path.isdir(secrets.open_at(place)):
        # kubelet keeps the files in hidden directories and links to them.
        names = os.listdir(secrets.open_at(place))
        options.update({key: os.path.join(place, key) for key in names if not key.startswith(".")})
    return options, str(attributes.get("mountPoint", ""))


def _value(key: str, value: str, secrets: Secrets) -> str:
    if not secrets.holds(value):
        return value
    try:
        with open(secrets.open_at(value), encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError as error:
        raise Unusable(f"Option {key} is to come from {value}, which cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Unusable(f"Option {key} is to come from {value}, which is no text.") from error
