"""Images that are no OCI images: this machine itself, or a directory of it. Pure but for one look whether it is there."""

from __future__ import annotations

import os
from typing import Literal

HOST = "host"
_DIRECTORY = "dir:"


class ImageTrouble(Exception):
    """The image cannot be used; `reason` is the container's waiting reason."""

    def __init__(self, reason: Literal["InvalidImageName", "ErrImagePull"], message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def is_local(image: str) -> bool:
    """Whether an image is this machine or a directory, which are never pulled."""
    return image in {"", HOST} or image.startswith(_DIRECTORY)


def root_of(image: str) -> str:
    """Return the world's `root` for a local image: `host` or an absolute directory.

    Raises:
        ImageTrouble: the directory is not there.
    """
    if image in {"", HOST}:
        return HOST
    path = image.removeprefix(_DIRECTORY)
    if not path.startswith("/"):
        raise ImageTrouble("InvalidImageName", f"image {image!r} names no absolute directory; write it as dir:/path.")
    if not os.path.isdir(path):
        raise ImageTrouble("ErrImagePull", f"image {image!r}: there is no directory {path} on this node.")
    return os.path.normpath(path)
