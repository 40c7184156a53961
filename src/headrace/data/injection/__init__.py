"""Injection, its sole owner: a pod's dataset claims become what the pool's mount mode can serve. Pure."""

from headrace.data.injection.inject import inject

__all__ = ["inject"]
