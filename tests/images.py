"""Container images made on this machine, and the thirty lines that push them to a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
APPLETS = ("sh", "cat", "chmod", "echo", "env", "false", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mount",
           "printf", "ps", "pwd", "rm", "seq", "sleep", "stat", "tail", "test", "touch", "true", "umount", "wc")  # fmt: skip
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def entry(name: str, content: bytes = b"", *, mode: int = 0o644, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return one entry of a layer; `fields` are those of TarInfo, such as `type=tarfile.SYMTYPE, linkname="/bin"`."""
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def link(name: str, target: str, *, hard: bool = False) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target, mode=0o777)


def directory(name: str, mode: int = 0o755, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return the tar of one layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass(frozen=True)
class TestImage:
    """An image: the tars of its layers and what its configuration says."""

    __test__ = False

    layers: tuple[bytes, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    compress: str = "gzip"
    family: str = OCI
    architecture: str = ARCHITECTURES.get(platform.machine(), "amd64")

    def saying(self, **config: Any) -> TestImage:
        return replace(self, config={**self.config, **config})

    def with_layer(self, *entries: tuple[tarfile.TarInfo, bytes]) -> TestImage:
        return replace(self, layers=(*self.layers, layer(*entries)))


def busybox(program: bytes, **config: Any) -> TestImage:
    """An image with a shell and the usual small programs; `program` is a static busybox."""
    links = [link(f"bin/{applet}", "busybox") for applet in APPLETS]
    passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n"
    files = [
        directory("bin"),
        entry("bin/busybox", program, mode=0o755),
        *links,
        directory("etc"),
        entry("etc/passwd", passwd),
        entry("etc/group", b"root:x:0:\nstaff:x:50:app\n"),
        directory("tmp", 0o1777),
    ]
    return TestImage((layer(*files),), {"Env": ["PATH=/bin", "FROM=image"], "Cmd": ["/bin/sh"], **config})


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def packed(tar: bytes, compress: str) -> bytes:
    if compress == "zstd":
        from backports import zstd

        return bytes(zstd.compress(tar))
    return gzip.compress(tar, mtime=0, compresslevel=1) if compress == "gzip" else tar


def manifest_of(image: TestImage) -> tuple[bytes, str, list[bytes]]:
    """Return an image's manifest, its media type, and the blobs that it names."""
    types = {
        OCI: (f"{OCI}.manifest.v1+json", f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+{image.compress}"),
        DOCKER: (
            f"{DOCKER}.distribution.manifest.v2+json",
            f"{DOCKER}.container.image.v1+json",
            f"{DOCKER}.image.rootfs.diff.tar.gzip",
        ),
    }[image.family]
    blobs = [packed(tar, image.compress) for tar in image.layers]
    config = json.dumps(
        {
            "architecture": image.architecture,
            "os": "linux",
            "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in image.layers]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": types[0],
        "config": {"mediaType": types[1], "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": types[2].removesuffix("+"), "digest": digest(b), "size": len(b)} for b in blobs],
    }
    return json.dumps(manifest).encode(), types[0], [config, *blobs]


def push(server: str, repository: str, tag: str, *images: TestImage, auth: tuple[str, str] | None = None) -> str:
    """Push an image, or several as an index for their architectures; return the digest that the tag names then."""
    with httpx2.Client(base_url=f"{server}/v2/{repository}/", auth=auth, trust_env=False) as http:
        described = []
        for image in images:
            manifest, kind, blobs = manifest_of(image)
            for blob in blobs:
                place = http.post("blobs/uploads/").raise_for_status().headers["Location"]
                http.put(
                    place, params={**httpx2.URL(place).params, "digest": digest(blob)}, content=blob
                ).raise_for_status()
            name = tag if len(images) == 1 else digest(manifest)
            http.put(f"manifests/{name}", content=manifest, headers={"Content-Type": kind}).raise_for_status()
            where = {"os": "linux", "architecture": image.architecture}
            described.append({"mediaType": kind, "digest": digest(manifest), "size": len(manifest), "platform": where})
        if len(images) == 1:
            return str(described[0]["digest"])
        kind = f"{OCI}.index.v1+json"
        index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": described}).encode()
        http.put(f"manifests/{tag}", content=index, headers={"Content-Type": kind}).raise_for_status()
        return digest(index)
