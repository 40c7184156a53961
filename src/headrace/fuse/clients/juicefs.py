"""JuiceFS's client: `python -m headrace.fuse.clients.juicefs [--copy]`. Mounts a volume that exists already.

Mount point `juicefs://<name>`; option `metaurl` (usually secret) is the metadata engine. Other options are those of
`juicefs mount`, by their names (`subdir`, `cache-size`, `buffer-size`, …). Credentials of the object store are in the
volume's own metadata; `access-key` and `secret-key` serve volumes that were formatted without any.

Secrets: a password in `metaurl` is cut out and given as META_PASSWORD in the environment of the client alone, since
argv can be read by every user of the machine. JuiceFS takes it from there for Redis, MySQL and PostgreSQL; for other
engines a password is refused with the cure. Checked on 1.4.2: `--no-agent`, `--no-usage-report`, `--hide-internal`
(else a recursive read hangs in `.accesslog`) exist.
"""

from __future__ import annotations

import re
import socket
import sys
import urllib.parse
from collections.abc import Mapping

from headrace.fuse.clients.contract import Contract, Mount, Unusable, check_options, read_contract, words
from headrace.fuse.clients.reach import require_reachable
from headrace.fuse.clients.run import Command, cache_directory, find_program, main
from headrace.fuse.counters import Source

_SCHEME = "juicefs://"
_OWN = frozenset({"metaurl", "access-key", "secret-key", "name", "copy-threads"})
_VALUES = words(
    "all-squash attr-cache backup-meta bucket buffer-size cache-dir cache-eviction cache-expire cache-items cache-mode "
    "cache-scan-interval cache-size custom-labels dir-entry-cache download-limit entry-cache free-space-ratio get-timeout "
    "heartbeat io-retries max-deletes max-downloads max-fuse-io max-readahead max-stage-write max-uploads "
    "negative-entry-cache open-cache open-cache-limit prefetch put-timeout root-squash skip-dir-mtime skip-dir-nlink "
    "storage storage-class subdir umask upload-delay upload-hours upload-limit verify-cache-checksum "
    "writeback-threshold-size atime-mode"
)
_FLAGS = words(
    "backup-skip-trash cache-large-write cache-partial-only check-storage disable-transparent-hugepage enable-cap "
    "enable-ioctl enable-selinux enable-xattr fast-statfs no-bgjob read-only readdir-cache sort-dir writeback"
)
# Of a volume's secret as other drivers know it, but of no use to a mount.
_FORMAT_ONLY = frozenset({"encrypt_rsa_key", "trash-days", "block-size", "format-options", "envs", "mount-options"})
_PASSWORD_FROM_ENVIRONMENT = ("redis", "rediss", "mysql", "postgres")
_PASSWORD = re.compile(r"(?P<engine>[a-z0-9]+)://(?P<user>[^:@/]*):(?P<password>[^@]+)@(?P<after>.*)", re.DOTALL)


def mounting() -> Command:
    """Return how to mount what the container was told to."""
    contract = read_contract()
    command = command_for(contract, program=find_program("juicefs"), port=_free_port())
    _require_engine(contract)
    return command


def copying() -> Command:
    """Return how to copy everything into targetPath instead."""
    contract = read_contract()
    command = copy_command_for(contract, program=find_program("juicefs"))
    _require_engine(contract)
    return command


def command_for(contract: Contract, *, program: str, port: int) -> Command:
    """Return the command of a mount. `port` of loopback shows the metrics."""
    mount = contract.only("JuiceFS")
    meta, env = _engine(mount)
    flags = ["--no-usage-report", "--hide-internal", "--no-syslog", "--metrics", f"127.0.0.1:{port}"]
    options = {key: value for key, value in mount.options.items() if key not in _OWN | _FORMAT_ONLY}
    check_options(options, _VALUES | _FLAGS | _OWN, "juicefs mount")
    flags += ["--cache-dir", cache_directory(options.pop("cache-dir", ""))]
    is_read_only = contract.read_only or mount.read_only or _is_on(options.pop("read-only", "false"))
    if is_read_only:
        flags.append("--read-only")
    for key, value in sorted(options.items()):
        if key in _VALUES:
            flags += [f"--{key}", value]
        elif _is_on(value):
            flags.append(f"--{key}")
    argv = (program, "--no-agent", "--no-color", "mount", *flags, meta, contract.target_path)
    return Command(argv, env, Source("juicefs", f"http://127.0.0.1:{port}/metrics"), is_known_by_uid=True)


def copy_command_for(contract: Contract, *, program: str) -> Command:
    """Return the command that copies the volume, or its `subdir`, into targetPath.

    `juicefs sync` reads a volume without mounting it as `jfs://NAME/`, whose metadata engine is the variable NAME.
    """
    mount = contract.only("JuiceFS")
    meta, env = _engine(mount)
    subdir = mount.options.get("subdir", "").strip("/")
    threads = mount.options.get("copy-threads", "64")
    source = f"jfs://VOLUME/{subdir}/" if subdir else "jfs://VOLUME/"
    argv = (
        program,
        "--no-agent",
        "--no-color",
        "sync",
        "--threads",
        threads,
        "--no-https",
        source,
        f"{contract.target_path}/",
    )
    return Command(argv, {**env, "VOLUME": meta})


def _require_engine(contract: Contract) -> None:
    require_reachable("The volume's metadata engine", contract.mounts[0].options["metaurl"])


def _engine(mount: Mount) -> tuple[str, dict[str, str]]:
    """Return the metadata engine's address without its password, and the environment that has the secrets."""
    if mount.point and not mount.point.startswith(_SCHEME):
        raise Unusable(f"{mount.point} is not JuiceFS's. Write the mount point as juicefs://<volume name>.")
    meta = mount.options.get("metaurl", "")
    if not meta:
        raise Unusable(
            "JuiceFS needs option metaurl, the address of the volume's metadata engine. Put it into the Secret and name "
            "it as an encryptOption metaurl, or into the volume's secret."
        )
    env: dict[str, str] = {}
    found = _PASSWORD.fullmatch(meta)
    if found is not None:
        engine, user = found["engine"], found["user"]
        if engine not in _PASSWORD_FROM_ENVIRONMENT:
            raise Unusable(
                f"A password in the metaurl of {engine} would be shown by the process list: JuiceFS takes it from "
                "nowhere else. Use client certificates (?cacert=…&cert=…&key=…), or Redis, MySQL or PostgreSQL."
            )
        is_redis = engine.startswith("redis")
        who = (f"{user}@" if user else "") if is_redis else f"{user}:@"
        meta = f"{engine}://{who}{found['after']}"
        # JuiceFS escapes it again for PostgreSQL; a MySQL address is no URL and its password not escaped.
        env["META_PASSWORD"] = found["password"] if engine == "mysql" else urllib.parse.unquote(found["password"])
    env.update(_object_store(mount.options))
    return meta, env


def _object_store(options: Mapping[str, str]) -> dict[str, str]:
    names = {"access-key": "AWS_ACCESS_KEY_ID", "secret-key": "AWS_SECRET_ACCESS_KEY"}
    return {variable: options[key] for key, variable in names.items() if options.get(key)}


def _is_on(value: str) -> bool:
    return value.lower() not in ("false", "0", "no", "off")


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(mounting, copying, sys.argv[1:]))
