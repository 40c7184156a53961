"""Which images go when the disk fills. Pure.

Source: kubelet's image garbage collection (`imageGCHighThresholdPercent` 85, `imageGCLowThresholdPercent` 80,
`imageMinimumGCAge` 2 min).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from headrace.node.images.store import Image

HIGH = 0.85
LOW = 0.80
_YOUNGEST_S = 120.0


def order(images: Iterable[Image], in_use: Collection[str], now: float) -> list[Image]:
    """Return the images that may go, the longest unused first: neither used by a pod nor fresh."""
    free = [image for image in images if image.id not in in_use and now - image.used_at >= _YOUNGEST_S]
    return sorted(free, key=lambda image: image.used_at)
