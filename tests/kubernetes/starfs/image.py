"""A stand-in for `micr.cloud.cn/cloudml/starfs-eci-mount:v1.4.1`, which is nobody's but its owner's: the same names in it.

Python as far as its script needs it, a shell, rclone. The script that is written into the image's root is a link into
/tmp: a client's root is read-only here, where Fluid's may be written by a privileged container.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from tests.images import TestImage
from tests.kubernetes.cluster import images, programs
from tests.kubernetes.csi.driver_image import libraries
from tests.registry import Registry

NAME = "micr.cloud.cn/cloudml/starfs-eci-mount:v1.4.1"
_SCRIPT = Path(__file__).with_name("fluid_config_init.py")
_IMPORTED = (
    "import json, shlex, pathlib, sys;"
    "print('\\n'.join(sorted({m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)})))"
)


def client_image(directory: Path) -> Path:
    """Write the image as a Docker archive, and return it."""
    interpreter = Path(os.path.realpath(sys.executable))
    standard = [Path(line) for line in _run(str(interpreter), "-I", "-c", _IMPORTED).splitlines()]
    rclone = Path(sysconfig.get_path("scripts"), "rclone")
    places = {file: file for file in (interpreter, *standard)}
    places |= {library: library for library in libraries(places.values())}
    files: dict[str, Path | bytes] = {str(place).lstrip("/"): file for place, file in places.items()}
    files |= {
        "fluid_config_init.py": _SCRIPT,
        "bin/busybox": programs.node_programs() / "bin" / "busybox",
        "bin/rclone": rclone,
        "etc/passwd": b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    }
    links = {f"bin/{applet}": "busybox" for applet in (*images.APPLETS, "chmod")}
    links |= {"bin/python3": str(interpreter), "mount-starfs.sh": "/tmp/mount-starfs.sh"}
    return images.archive(directory, NAME, files, links=links, command=["/bin/sh"])


def pushed(registry: Registry, archive: Path, name: str, *more: tuple[tarfile.TarInfo, bytes]) -> str:
    """Push a Docker archive's image as `name`, with `more` in a layer of its own; returns its digest.

    The registry has it without the host in its name, as a mirror does.
    """
    with tarfile.open(archive) as tar:
        config, layer = (_read(tar, part) for part in ("config.json", "layer.tar"))
    image = TestImage((layer,), json.loads(config)["config"], compress="")
    repository, _, tag = name.partition("/")[2].rpartition(":")
    return registry.push(repository, tag, image.with_layer(*more) if more else image)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
