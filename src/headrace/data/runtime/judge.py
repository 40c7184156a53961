"""Whether a Dataset is configured, and if not, why: one verdict with a sentence. Pure.

`Bound` means configured: every object there, everything readable, `config.json` rendered. That a mount really works
is another condition, `MountVerified`, which only a mount can prove (`data.verify`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.data.client import ResolvedDataset
from headrace.data.conditions import BOUND, FAILED, NOT_BOUND, PENDING, nearest_first
from headrace.data.runtime.assemble import Sources, assemble
from headrace.data.runtime.config import ClientConfig, claim_volume, claims_of
from headrace.errors import HeadraceError
from headrace.spec.conditions import Status
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import THIN_RUNTIME_PROFILE

WAIT_FOR_CONSUMER = "WaitForFirstConsumer"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The objects that one Dataset is configured from, as the cache has them.

    Args:
        profiles: the names of all ThinRuntimeProfiles.
        claims: of `pvc://` mounts, by name; None where there is none.
        volumes: the PersistentVolume each of these claims is bound to.
        binding: each claim's `volumeBindingMode`.
        secrets: Secrets of the Dataset's namespace, by name; None where there is none.
        asks_secrets: False where nobody looked for Secrets, because whoever asks has no right to read them.
    """

    dataset: Doc[Any]
    runtime: Doc[Any] | None = None
    profile: Doc[Any] | None = None
    profiles: tuple[str, ...] = ()
    claims: Mapping[str, Doc[Any] | None] = field(default_factory=dict)
    volumes: Mapping[str, Doc[Any] | None] = field(default_factory=dict)
    binding: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Doc[Any] | None] = field(default_factory=dict)
    asks_secrets: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the Dataset's Ready condition says. `resolved` and `config` are there when it is Bound."""

    phase: str
    status: Status
    reason: str
    message: str
    resolved: ResolvedDataset | None = None
    config: ClientConfig | None = None


def judge(parts: Parts) -> Verdict:
    """Return the verdict; the first thing that is missing or wrong decides it.

    Several controllers ask after every change, most of which change nothing of this, so what was asked lately is
    remembered: 0.02 ms in place of 0.3.
    """
    ref = parts.dataset.ref
    known = _lately.get(ref)
    if known is None or not _are_the_same(known[0], parts):
        known = _lately[ref] = (parts, _judge(parts))
        while len(_lately) > _REMEMBERED:
            del _lately[next(iter(_lately))]
    return known[1]


_REMEMBERED = 1024
_lately: dict[Ref, tuple[Parts, Verdict]] = {}


def _are_the_same(parts: Parts, others: Parts) -> bool:
    """Tell whether the verdict must be the same. Docs are equal when they are one; of two, more than the status counts."""
    return (
        _said(parts.dataset) == _said(others.dataset)
        and _said(parts.runtime) == _said(others.runtime)
        and all(getattr(parts, name) == getattr(others, name) for name in _WHOLE)
    )


_WHOLE = ("profile", "profiles", "claims", "volumes", "binding", "secrets", "asks_secrets")


def _said(doc: Doc[Any] | None) -> tuple[Any, ...]:
    return (doc.spec, doc.labels, doc.annotations, doc.ref, doc.uid, doc.is_deleting) if doc is not None else ()


def _judge(parts: Parts) -> Verdict:
    runtime, profile = parts.runtime, parts.profile
    if runtime is None or runtime.is_deleting:
        return _not_bound(
            "RuntimeNotFound",
            f"There is no ThinRuntime {parts.dataset.ref}, and a Dataset is served by the ThinRuntime of its own name. "
            "Make one that names a ThinRuntimeProfile.",
        )
    wanted = str(runtime.spec.get("profileName") or "")
    if not wanted:
        return _failed(
            "Unsupported",
            f"ThinRuntime {runtime.ref} names no profile, which in Fluid refers to another Dataset; that is not "
            "supported in this version. Set spec.profileName.",
        )
    if profile is None:
        known = nearest_first(wanted, parts.profiles) or "none"
        return _not_bound(
            "ProfileNotFound",
            f"There is no profile {wanted}; found: {known}. Apply a ThinRuntimeProfile of this name, or choose one that was found; "
            "nothing else is needed.",
        )
    unbound = _unbound(parts)
    if unbound is not None:
        return unbound
    try:
        resolved, config = assemble(sources(parts))
    except HeadraceError as error:
        return _failed(type(error).__name__, str(error))
    missing = _missing_secret(parts, config) if parts.asks_secrets else ""
    if missing:
        return _failed("SecretNotFound", missing)
    message = " ".join((f"Configured with profile {wanted}.", *config.notes))
    return Verdict(phase=BOUND, status="True", reason="DatasetReady", message=message, resolved=resolved, config=config)


def sources(parts: Parts) -> Sources:
    """Return what `assemble` needs; every claim must be bound. Raises InvalidSpec for a volume that is not CSI."""
    assert parts.runtime is not None
    assert parts.profile is not None
    volumes = {}
    for claim in claims_of(parts.dataset.raw):
        volume = parts.volumes.get(claim)
        assert volume is not None
        secret = publish_secret(volume)
        keys = secret_keys(parts.secrets.get(secret)) if parts.asks_secrets else ()
        volumes[claim] = claim_volume(claim, volume.raw, keys if secret else None)
    profile: Json = {"apiVersion": THIN_RUNTIME_PROFILE.api_version, **parts.profile.raw}
    return Sources(dataset=parts.dataset.raw, runtime=parts.runtime.raw, profile=profile, volumes=volumes)


def publish_secret(volume: Doc[Any]) -> str:
    """Return the name of the Secret that a volume's own driver publishes with; empty when it needs none."""
    return str(((volume.spec.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name", ""))


def secret_options(dataset: Json) -> list[tuple[str, str]]:
    """Return every `(Secret, key)` that a Dataset's secret options name."""
    spec = dataset.get("spec") or {}
    options = list(spec.get("sharedEncryptOptions") or [])
    for mount in spec.get("mounts") or []:
        options += mount.get("encryptOptions") or []
    references = [(option.get("valueFrom") or {}).get("secretKeyRef") or {} for option in options]
    return [(str(reference.get("name", "")), str(reference.get("key", ""))) for reference in references]


def secret_keys(secret: Doc[Any] | None) -> tuple[str, ...] | None:
    """Return the names of a Secret's keys, sorted; None when there is no Secret."""
    return (
        None
        if secret is None
        else tuple(sorted({**(secret.raw.get("data") or {}), **(secret.raw.get("stringData") or {})}))
    )


def _unbound(parts: Parts) -> Verdict | None:
    """An unbound claim is waited for; it is an error only when it cannot become bound by waiting."""
    for name in claims_of(parts.dataset.raw):
        claim = parts.claims.get(name)
        if claim is None:
            return _not_bound(
                "ClaimNotFound",
                f"Claim {name} does not exist in namespace {parts.dataset.namespace}. Make it, or correct the mount "
                f"pvc://{name}.",
            )
        if claim.status.get("phase") == "Lost":
            return _failed(
                "ClaimLost", f"Claim {name} has lost its PersistentVolume. Delete the claim and make it anew."
            )
        if claim.status.get("phase") != "Bound" or parts.volumes.get(name) is None:
            return _pending(name, parts.binding.get(name, ""))
    return None


def _pending(claim: str, binding: str) -> Verdict:
    if binding == WAIT_FOR_CONSUMER:
        message = f"Claim {claim} is bound when the first pod that uses it is scheduled; nothing is wrong."
    else:
        message = f"Claim {claim} is not bound yet; `kubectl describe pvc {claim}` says what it waits for."
    return Verdict(phase=PENDING, status="Unknown", reason="ClaimPending", message=message)


def _missing_secret(parts: Parts, config: ClientConfig) -> str:
    """Return a sentence for the first Secret or key that a client's pod would wait for in vain."""
    namespace = parts.dataset.namespace
    for name, key in secret_options(parts.dataset.raw):
        keys = secret_keys(parts.secrets.get(name))
        if keys is None:
            return f"Secret {namespace}/{name} does not exist, and a secret option needs its key {key}. Make it."
        if key not in keys:
            there_are = nearest_first(key, keys) or "none"
            return f"Secret {namespace}/{name} has no key {key}, which a secret option needs; it has: {there_are}."
    return next(
        (
            f"Secret {namespace}/{name} does not exist. Make it."
            for name in config.secrets
            if parts.secrets.get(name) is None
        ),
        "",
    )


def _not_bound(reason: str, message: str) -> Verdict:
    return Verdict(phase=NOT_BOUND, status="False", reason=reason, message=message)


def _failed(reason: str, message: str) -> Verdict:
    return Verdict(phase=FAILED, status="False", reason=reason, message=message)
