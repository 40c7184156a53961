"""What all tests share: hypothesis keeps nothing on disk, so that a checkout that cannot be written is enough."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("headrace", database=None, deadline=None)
settings.load_profile("headrace")
