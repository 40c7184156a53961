"""Reads everything one Dataset hangs on from the cache, and says which Datasets a changed object concerns.

Synchronous and read-only. Shared by the Dataset's reconciler, by `data.resolve` and by `data.verify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from headrace.cluster.cache import Cache
from headrace.data.runtime.assemble import config_map_name, is_wrapped
from headrace.data.runtime.config import claims_of
from headrace.data.runtime.judge import Parts, publish_secret, secret_options
from headrace.data.runtime.plan import Observed
from headrace.data.runtime.volume import named_dataset, volume_name
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    DATASET,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    STORAGE_CLASS,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)
from headrace.spec.names import (
    CSI_ATTRIBUTE_DATASET,
    CSI_DRIVER,
    DEFAULT_STORAGE_CLASS_ANNOTATION,
    FUSE_CONFIG_MAP_SUFFIX,
    PROBE_LABEL,
)

_CLAIMS = "data/claims"
_SECRETS = "data/secrets"
_PROFILE = "data/profile"
_DATASETS = "data/datasets"
_FINISHED = ("Succeeded", "Failed")


class DatasetObserver:
    """Registers its indexes in the cache when made; make one a cache."""

    def __init__(self, cache: Cache) -> None:
        cache.add_index(DATASET, _CLAIMS, _dataset_claims)
        cache.add_index(DATASET, _SECRETS, _dataset_secrets)
        cache.add_index(THIN_RUNTIME, _PROFILE, lambda doc: [str(doc.spec.get("profileName") or "")])
        cache.add_index(PERSISTENT_VOLUME, _SECRETS, _volume_secret)
        cache.add_index(POD, _DATASETS, datasets_of_pod)
        cache.add_index(POD, _CLAIMS, _pod_claims)
        self._datasets = cache.reader(DATASET)
        self._runtimes = cache.reader(THIN_RUNTIME)
        self._profiles = cache.reader(THIN_RUNTIME_PROFILE)
        self._claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        self._volumes = cache.reader(PERSISTENT_VOLUME)
        self._classes = cache.reader(STORAGE_CLASS)
        self._secrets = cache.reader(SECRET)
        self._config_maps = cache.reader(CONFIG_MAP)
        self._pods = cache.reader(POD)

    # -- what there is ---------------------------------------------------------------------------------------------

    def parts(self, ref: Ref) -> Parts | None:
        """Return what the Dataset is configured from; None when there is no Dataset."""
        dataset = self._datasets.get(ref)
        if dataset is None:
            return None
        runtime = self._runtimes.get(ref)
        profile = str(runtime.spec.get("profileName") or "") if runtime is not None else ""
        claims = {name: self._claims.get(Ref(ref.namespace, name)) for name in claims_of(dataset.raw)}
        volumes = {name: self._bound_volume(claim) for name, claim in claims.items()}
        wanted = {secret for secret, _ in secret_options(dataset.raw)}
        wanted |= {publish_secret(volume) for volume in volumes.values() if volume is not None}
        return Parts(
            dataset=dataset,
            runtime=runtime,
            profile=self._profiles.get(Ref("", profile)) if profile else None,
            profiles=self.profile_names(),
            claims=claims,
            volumes=volumes,
            binding={name: self._binding_mode(claim) for name, claim in claims.items() if claim is not None},
            secrets={name: self._secrets.get(Ref(ref.namespace, name)) for name in wanted if name},
        )

    def observe(self, ref: Ref) -> Observed:
        """Return everything the plan for one Dataset and ThinRuntime needs."""
        parts = self.parts(ref)
        plain = parts is not None and not is_wrapped(parts.dataset.raw)
        return Observed(
            parts=parts,
            runtime=self._runtimes.get(ref),
            config_map=self._config_maps.get(Ref(ref.namespace, config_map_name(ref.name))),
            volume=self._volumes.get(Ref("", volume_name(ref))) if plain else None,
            claim=self._claims.get(ref) if plain else None,
            users=self.users(ref, with_claim=plain),
        )

    def profile_names(self) -> tuple[str, ...]:
        return tuple(sorted(profile.name for profile in self._profiles.list()))

    def users(self, dataset: Ref, *, with_claim: bool) -> tuple[str, ...]:
        """Return the names of unfinished pods that use a Dataset: by a client of their own, or by its own claim."""
        pods = self._pods.by_index(_DATASETS, str(dataset))
        if with_claim:
            pods = [*pods, *self._pods.by_index(_CLAIMS, str(dataset))]
        living = {
            pod.name for pod in pods if pod.status.get("phase") not in _FINISHED and PROBE_LABEL not in pod.labels
        }
        return tuple(sorted(living))

    def _bound_volume(self, claim: Doc[Any] | None) -> Doc[Any] | None:
        name = str(claim.spec.get("volumeName") or "") if claim is not None else ""
        return self._volumes.get(Ref("", name)) if name else None

    def _binding_mode(self, claim: Doc[Any]) -> str:
        name = claim.spec.get("storageClassName")
        if name is None:
            defaults = [
                c for c in self._classes.list() if c.annotations.get(DEFAULT_STORAGE_CLASS_ANNOTATION) == "true"
            ]
            storage_class = defaults[0] if defaults else None
        else:
            storage_class = self._classes.get(Ref("", str(name)))
        return str(storage_class.raw.get("volumeBindingMode") or "") if storage_class is not None else ""

    # -- whom a change concerns ------------------------------------------------------------------------------------

    def of_profile(self, profile: Doc[Any]) -> Iterator[Ref]:
        """Every runtime that names it, and every one whose own is missing: it tells which there are."""
        yield from (runtime.ref for runtime in self._runtimes.by_index(_PROFILE, profile.name))
        for runtime in self._runtimes.list():
            wanted = str(runtime.spec.get("profileName") or "")
            if wanted != profile.name and self._profiles.get(Ref("", wanted)) is None:
                yield runtime.ref

    def of_claim(self, claim: Doc[Any]) -> Iterator[Ref]:
        """The Datasets that mount it, and the one it may belong to."""
        yield claim.ref
        yield from (dataset.ref for dataset in self._datasets.by_index(_CLAIMS, str(claim.ref)))

    def of_volume(self, volume: Doc[Any]) -> Iterator[Ref]:
        """The Datasets that mount the claim it is bound to, and the Dataset whose own it is."""
        own = named_dataset(volume)
        if own is not None:
            yield own
        claim = _claim_of(volume)
        if claim is not None:
            yield from (dataset.ref for dataset in self._datasets.by_index(_CLAIMS, str(claim)))

    def of_secret(self, secret: Doc[Any]) -> Iterator[Ref]:
        """The Datasets with an option in it, and those whose claim's volume is published with its name."""
        yield from (dataset.ref for dataset in self._datasets.by_index(_SECRETS, str(secret.ref)))
        for volume in self._volumes.by_index(_SECRETS, str(secret.ref)):
            claim = _claim_of(volume)
            if claim is not None:
                yield from (dataset.ref for dataset in self._datasets.by_index(_CLAIMS, str(claim)))

    def of_pod(self, pod: Doc[Any]) -> Iterator[Ref]:
        """The Datasets it uses, which may wait for its end."""
        for name in {*datasets_of_pod(pod), *_pod_claims(pod)}:
            namespace, _, dataset = name.partition("/")
            yield Ref(namespace, dataset)

    @staticmethod
    def of_config_map(config_map: Doc[Any]) -> Iterator[Ref]:
        """The Dataset whose configuration it would be by its name."""
        if config_map.name.endswith(FUSE_CONFIG_MAP_SUFFIX):
            yield Ref(config_map.namespace, config_map.name.removesuffix(FUSE_CONFIG_MAP_SUFFIX))


def datasets_of_pod(pod: Doc[Any]) -> Iterable[str]:
    """Return `namespace/name` of each Dataset that a pod has a client for."""
    names = set()
    for volume in pod.spec.get("volumes") or []:
        csi = volume.get("csi") or {}
        name = (csi.get("volumeAttributes") or {}).get(CSI_ATTRIBUTE_DATASET)
        if csi.get("driver") == CSI_DRIVER and name:
            names.add(f"{pod.namespace}/{name}")
    return names


def _pod_claims(pod: Doc[Any]) -> Iterable[str]:
    sources = [volume.get("persistentVolumeClaim") or {} for volume in pod.spec.get("volumes") or []]
    return {f"{pod.namespace}/{source['claimName']}" for source in sources if source.get("claimName")}


def _dataset_claims(dataset: Doc[Any]) -> Iterable[str]:
    return [f"{dataset.namespace}/{claim}" for claim in claims_of(dataset.raw)]


def _dataset_secrets(dataset: Doc[Any]) -> Iterable[str]:
    return {f"{dataset.namespace}/{secret}" for secret, _ in secret_options(dataset.raw)}


def _volume_secret(volume: Doc[Any]) -> Iterable[str]:
    claim, secret = _claim_of(volume), publish_secret(volume)
    return [f"{claim.namespace}/{secret}"] if claim is not None and secret else []


def _claim_of(volume: Doc[Any]) -> Ref | None:
    reference = volume.spec.get("claimRef") or {}
    return Ref(str(reference.get("namespace", "")), str(reference["name"])) if reference.get("name") else None
