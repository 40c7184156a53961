"""What a container's image names as its root: this machine, a directory, and later an unpacked OCI image."""

from __future__ import annotations

import os
import re
from typing import Literal

HOST = "host"
_DIRECTORY = "dir:"
_NAME = re.compile(r"[\w.\-]+(?::\d+)?(?:/[\w.\-]+)*(?::[\w][\w.\-]{0,127})?(?:@sha256:[0-9a-f]{64})?")


class ImageTrouble(Exception):
    """The image cannot be used; `reason` is the container's waiting reason."""

    def __init__(self, reason: Literal["InvalidImageName", "ErrImagePull"], message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def root_of(image: str) -> str:
    """Return the world's `root` for an image: `host` or an absolute directory.

    Raises:
        ImageTrouble: the directory is not there, the name is no image name, or it names an OCI image.
    """
    if image in {"", HOST}:
        return HOST
    if image.startswith(_DIRECTORY):
        path = image.removeprefix(_DIRECTORY)
        if not path.startswith("/"):
            raise ImageTrouble(
                "InvalidImageName", f"image {image!r} names no absolute directory; write it as dir:/path."
            )
        if not os.path.isdir(path):
            raise ImageTrouble("ErrImagePull", f"image {image!r}: there is no directory {path} on this node.")
        return os.path.normpath(path)
    if not _NAME.fullmatch(image):
        raise ImageTrouble("InvalidImageName", f"{image!r} is no image name; use host, dir:/path or registry/name:tag.")
    raise ImageTrouble(
        "ErrImagePull",
        f"image {image!r} is an OCI image, and this version does not unpack OCI images yet; a later one will. "
        "Embedded pods use image host (this machine's file system) or dir:/path.",
    )
