"""rclone's client for S3: `python -m headrace.fuse.clients.rclone [--copy]`.

Mount point `s3://bucket[/prefix]`; options `endpoint`, `provider`, `region`, `access-key`, `secret-key` (usually
secret), `session-token`, `cache-size`, `cache-dir`, any `vfs-*` and other mount flag of rclone by its name. Several
mounts appear beside each other, each in a directory of its path or name.

Secrets are in a configuration file, mode 0600, in the container's own /tmp: no other container sees that file
system, while argv can be read by every user of the machine. Metrics are on a Unix socket beside it, and so is rclone's
remote control, only where it writes: on a shared loopback anybody could order it about.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping

from headrace.fuse.clients.contract import Contract, Mount, Unusable, check_options, read_contract, words
from headrace.fuse.clients.identity import owner_outside
from headrace.fuse.clients.reach import require_reachable
from headrace.fuse.clients.run import Command, cache_directory, find_program, main
from headrace.fuse.clients.unwritten import Uploads
from headrace.fuse.counters import Source

_SCHEME = "s3://"
_BACKEND = {
    "endpoint": "endpoint",
    "provider": "provider",
    "region": "region",
    "access-key": "access_key_id",
    "secret-key": "secret_access_key",
    "session-token": "session_token",
    "location-constraint": "location_constraint",
    "force-path-style": "force_path_style",
    "sse-customer-key": "sse_customer_key",
    "sse-customer-algorithm": "sse_customer_algorithm",
}
_OWN = frozenset({"cache-size", "cache-dir", "copy-transfers", "name"})
_VALUES = words(
    "attr-timeout buffer-size bwlimit checkers contimeout dir-cache-time dir-perms file-perms gid low-level-retries "
    "max-read-ahead timeout tpslimit transfers uid umask vfs-cache-max-age vfs-cache-max-size vfs-cache-min-free-space "
    "vfs-cache-mode vfs-cache-poll-interval vfs-disk-space-total-size vfs-handle-caching vfs-read-ahead "
    "vfs-read-chunk-size vfs-read-chunk-size-limit vfs-read-chunk-streams vfs-read-wait vfs-write-back vfs-write-wait"
)
_FLAGS = words(
    "direct-io no-check-certificate no-checksum no-modtime no-seek read-only use-server-modtime vfs-case-insensitive vfs-fast-fingerprint "
    "vfs-refresh vfs-used-is-size write-back-cache"
)
# What suits most: a slow first answer must not hang for rclone's own quarter of an hour, and the modification time
# that rclone keeps in object metadata costs one request an object (measured: a cold epoch takes twice as long).
_DEFAULTS = {
    "vfs-cache-mode": "full",
    "use-server-modtime": "",
    "contimeout": "10s",
    "low-level-retries": "3",
    "dir-cache-time": "1m",
}


def mounting() -> Command:
    """Return how to mount what the container was told to."""
    contract, place = read_contract(), tempfile.mkdtemp(prefix="rclone-")
    command = command_for(contract, program=find_program("rclone"), place=place, owner=owner_outside())
    _require_endpoints(contract)
    return command


def copying() -> Command:
    """Return how to copy everything into targetPath instead."""
    contract, place = read_contract(), tempfile.mkdtemp(prefix="rclone-")
    command = copy_command_for(contract, program=find_program("rclone"), place=place)
    _require_endpoints(contract)
    return command


def command_for(contract: Contract, *, program: str, place: str, owner: tuple[int, int]) -> Command:
    """Return the command of a mount.

    Args:
        place: a private directory for the configuration file and the metrics socket.
        owner: uid and gid that files shall have, in the user namespace that mounts.
    """
    remote = _configure(contract, place)
    options = {**_DEFAULTS, **_common_options(contract)}
    is_read_only = contract.read_only or _is_on(options.pop("read-only", "false"))
    size = options.pop("cache-size", "")
    flags = ["--cache-dir", cache_directory(options.pop("cache-dir", ""))]
    if size:
        flags += ["--vfs-cache-max-size", size]
    if is_read_only:
        flags.append("--read-only")
    options.setdefault("uid", str(owner[0]))
    options.setdefault("gid", str(owner[1]))
    for key, value in sorted(options.items()):
        if key in _VALUES:
            flags += [f"--{key}", value]
        elif _is_on(value):
            flags.append(f"--{key}")
    metrics = os.path.join(place, "metrics.sock")
    flags += ["--metrics-addr", f"unix://{metrics}", "--poll-interval", "0", "--allow-non-empty", "--stats", "0"]
    uploads = None if is_read_only else Uploads(os.path.join(place, "control.sock"))
    if uploads is not None:
        flags += ["--rc", "--rc-no-auth", "--rc-addr", f"unix://{uploads.path}"]
    argv = (program, "mount", "--config", _config_path(place), *flags, remote, contract.target_path)
    source = Source("rclone-ro" if is_read_only else "rclone", f"unix:{metrics}")
    return Command(argv, metrics=source, uploads=uploads)


def copy_command_for(contract: Contract, *, program: str, place: str) -> Command:
    """Return the command that copies everything into targetPath: 64 at a time fill a far line (measured)."""
    remote = _configure(contract, place)
    transfers = _common_options(contract).get("copy-transfers", "64")
    flags = ("--transfers", transfers, "--use-server-modtime", "--stats", "5s", "--stats-one-line", "-v")
    return Command((program, "copy", "--config", _config_path(place), *flags, remote, contract.target_path))


def _require_endpoints(contract: Contract) -> None:
    for endpoint in sorted({mount.options.get("endpoint", "") for mount in contract.mounts}):
        require_reachable("The object store", endpoint)


def _configure(contract: Contract, place: str) -> str:
    """Write the configuration file and return the remote to mount."""
    sections: dict[str, Mapping[str, str]] = {}
    remotes: dict[str, str] = {}
    for number, mount in enumerate(contract.mounts):
        if not mount.point.startswith(_SCHEME):
            raise Unusable(
                f"{mount.point or 'the volume'} is no S3 bucket. Write the mount point as s3://bucket[/prefix]."
            )
        bucket = mount.point.removeprefix(_SCHEME).strip("/")
        if not bucket:
            raise Unusable("s3:// names no bucket. Write the mount point as s3://bucket[/prefix].")
        check_options(mount.options, _VALUES | _FLAGS | _OWN | set(_BACKEND), "rclone mount")
        sections[f"origin{number}"] = _backend(mount)
        remotes[mount.path or f"mount{number}"] = f"origin{number}:{bucket}"
    if len(remotes) < len(contract.mounts):
        raise Unusable("Two mounts of the Dataset have the same path. Give each its own spec.mounts[].path.")
    if len(remotes) == 1:
        remote = next(iter(remotes.values()))
    else:
        upstreams = " ".join(f'"{path}={remote}"' for path, remote in remotes.items())
        sections["all"] = {"type": "combine", "upstreams": upstreams}
        remote = "all:"
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
        for name, section in sections.items()
    )
    fd = os.open(_config_path(place), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return remote


def _backend(mount: Mount) -> dict[str, str]:
    values = {_BACKEND[key]: value for key, value in mount.options.items() if key in _BACKEND}
    for key, value in values.items():
        if "\n" in value:
            raise Unusable(f"Option {key} of {mount.point} has a line break. Is it the right file?")
    if not values.get("access_key_id") and not values.get("secret_access_key"):
        values["env_auth"] = "true"  # an instance's or pod's own role
    return {"type": "s3", "provider": "Other" if values.get("endpoint") else "AWS", **values}


def _common_options(contract: Contract) -> dict[str, str]:
    """Return the options of the mount as such; where several Datasets' mounts say different things, the last one wins."""
    merged: dict[str, str] = {}
    for mount in contract.mounts:
        merged.update({key: value for key, value in mount.options.items() if key not in _BACKEND and key != "name"})
    return merged


def _config_path(place: str) -> str:
    return os.path.join(place, "rclone.conf")


def _is_on(value: str) -> bool:
    return value.lower() not in ("false", "0", "no", "off")


if __name__ == "__main__":
    sys.exit(main(mounting, copying, sys.argv[1:]))
