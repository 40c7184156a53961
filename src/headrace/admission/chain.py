"""All admitters in their order, for whoever registers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.admission.authorship import Authorship
from headrace.admission.in_use import InUse
from headrace.admission.injector import PodInjector
from headrace.admission.review import Admitter, Trusted
from headrace.admission.sidecars import SidecarGuard
from headrace.cluster.cache import Cache
from headrace.data.modes.mode import Capabilities
from headrace.data.resolve import Resolver
from headrace.data.runtime.observe import DatasetObserver
from headrace.spec.kind import Doc


class Chain(NamedTuple):
    """Admitters, first to last: those that change objects, and those that only refuse and warn."""

    mutating: tuple[Admitter, ...]
    validating: tuple[Admitter, ...]


def chain(
    cache: Cache,
    observer: DatasetObserver,
    resolver: Resolver,
    *,
    capabilities_of: Callable[[Doc[Any]], Capabilities],
    trusted: Trusted,
) -> Chain:
    """Return the admitters to register.

    Args:
        cache: synced before the first request, or claims look unknown.
        capabilities_of: what a pool's nodes can do.
        trusted: names of users who are Headrace's own controllers and node agents.
    """
    return Chain(
        mutating=(Authorship(trusted), PodInjector(cache, resolver, capabilities_of, trusted)),
        validating=(SidecarGuard(trusted), InUse(cache, observer)),
    )


def admitters(
    cache: Cache,
    observer: DatasetObserver,
    resolver: Resolver,
    *,
    capabilities_of: Callable[[Doc[Any]], Capabilities],
    trusted: Trusted,
) -> tuple[Admitter, ...]:
    """Return all of `chain` in one, for a server that asks them itself."""
    made = chain(cache, observer, resolver, capabilities_of=capabilities_of, trusted=trusted)
    return (*made.validating, *made.mutating)
