"""What a profile's owner allows: the platform acts for tenants here, and must not be talked into what they may not do.

A profile carries the platform's image and, in the node's driver, runs outside any tenant's pod. So its owner may say
for whom it is (`spec.restrict`), and nobody's ThinRuntime changes what is run where the node runs it.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.data.runtime.config import ClaimVolume
from headrace.data.runtime.merge import overridden
from headrace.errors import Denied
from headrace.spec.kind import Json


def refuse_forbidden_use(profile: Json, dataset: Json, volumes: Iterable[ClaimVolume]) -> None:
    """Raise Denied when the profile may not be used for this Dataset and these volumes."""
    restriction = (profile.get("spec") or {}).get("restrict") or {}
    name, namespace = profile["metadata"]["name"], dataset["metadata"]["namespace"]
    namespaces = restriction.get("namespaces") or []
    if namespaces and namespace not in namespaces:
        raise Denied(
            f"ThinRuntimeProfile {name} may not be used in namespace {namespace}.",
            hint="Have its owner add the namespace to spec.restrict.namespaces, or use another profile.",
        )
    drivers, attributes = restriction.get("drivers") or [], restriction.get("attributes") or {}
    for volume in volumes:
        driver = volume.csi.get("driver", "")
        if drivers and driver not in drivers:
            raise Denied(
                f"ThinRuntimeProfile {name} may not be used for volumes of driver {driver}, which claim {volume.claim} "
                f"has; it is for {', '.join(drivers)}.",
                hint="Use the profile that belongs to this storage system.",
            )
        actual = volume.csi.get("volumeAttributes") or {}
        for key, wanted in attributes.items():
            if actual.get(key) != wanted:
                raise Denied(
                    f"ThinRuntimeProfile {name} is only for volumes with attribute {key}={wanted}; the volume of claim "
                    f"{volume.claim} has {actual.get(key, 'none')}.",
                    hint="Use another profile, or have its owner change spec.restrict.attributes.",
                )


def refuse_overrides(runtime: Json, profile: Json) -> None:
    """Raise Denied when a tenant's runtime changes what the node's driver would run outside the tenant's pods."""
    fields = overridden(runtime)
    if fields:
        raise Denied(
            f"ThinRuntime {runtime['metadata']['name']} changes {', '.join(fields)}, and on nodes with the driver the "
            "client runs outside the namespace's own pods.",
            hint=f"Remove them, or have them put into ThinRuntimeProfile {profile['metadata']['name']}.",
        )
