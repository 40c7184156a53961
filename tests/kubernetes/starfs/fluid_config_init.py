"""What the storage team wrote for Fluid: reads the contract's config.json and writes the script that mounts.

Runs in the client's image, where there is nothing but Python's standard library, a shell and rclone.
"""

import json
import shlex
from pathlib import Path

config = json.loads(Path("/etc/fluid/config/config.json").read_text())
claim = config["mounts"][0]["mountPoint"].removeprefix("pvc://")
volume = config["persistentVolumeAttrs"][claim]
attributes = volume["volumeAttributes"]
secret = f"/etc/fluid/secrets/{volume['nodePublishSecretRef']['name']}"
read_only = "" if any(mode.startswith("ReadWrite") for mode in config["accessModes"]) else "--read-only"

Path("/mount-starfs.sh").write_text(
    f"""#!/bin/sh
export RCLONE_WEBDAV_URL={shlex.quote(attributes["server"])}
export RCLONE_WEBDAV_USER="$(cat {secret}/user)"
export RCLONE_WEBDAV_PASS="$(rclone obscure - < {secret}/password)"
exec rclone mount --config /dev/null --allow-non-empty --uid 0 --gid 0 --umask 000 {read_only} :webdav:{shlex.quote(attributes["path"])} {config["targetPath"]}
"""
)
