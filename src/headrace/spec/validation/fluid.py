"""Fluid's kinds (Fluid itself validates little of this, and at reconcile time; docs/design.md, section 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from headrace.ids import is_dns_label
from headrace.spec.core.volume import Volume, VolumeMount
from headrace.spec.fluid.dataset import Dataset, EncryptOption, Mount
from headrace.spec.fluid.operation import DataLoad, DataProcess, ScriptProcessor
from headrace.spec.fluid.runtime import (
    ThinFuseSpec,
    ThinRuntime,
    ThinRuntimeProfile,
    ThinWorkerSpec,
)
from headrace.spec.validation.core import check_access_modes
from headrace.spec.validation.metadata import check_subdomain
from headrace.spec.validation.pod import check_env, check_pod_spec, check_resources
from headrace.spec.validation.problem import (
    Problem,
    Problems,
    check_absolute,
    check_one_of,
    check_quantity,
    check_relative,
    check_unique,
    member,
)
from headrace.spec.validation.volumes import check_volumes

_PULL_POLICIES = ("", "Always", "IfNotPresent", "Never")
_CLEAN_POLICIES = ("", "OnDemand", "OnRuntimeDeleted", "OnFuseChanged")
_CRON = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|(\S+\s+){4}\S+")
_FILE_SYSTEM_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_dataset(dataset: Dataset) -> Problems:
    """Report what is wrong with a Dataset."""
    spec = dataset.spec
    yield from check_unique("spec.mounts", (mount.name for mount in spec.mounts), "name")
    yield from check_unique("spec.mounts", (mount.path for mount in spec.mounts), "path")
    for index, mount in enumerate(spec.mounts):
        yield from _mount(f"spec.mounts[{index}]", mount)
    schemes = [mount.mount_point.partition("://")[0] for mount in spec.mounts]
    for scheme in ("dataset", "pvc"):
        if scheme in schemes and len(schemes) > 1:
            index = schemes.index(scheme)
            alone = "a Dataset that refers to another one" if scheme == "dataset" else "a Dataset that wraps a claim"
            yield Problem(f"spec.mounts[{index}].mountPoint", f"is {scheme}://…; {alone} has no other mount")
    yield from check_access_modes("spec.accessModes", spec.access_modes, required=False)
    options = spec.shared_options
    yield from _encrypt_options("spec.sharedEncryptOptions", spec.shared_encrypt_options, options)


def _mount(path: str, mount: Mount) -> Problems:
    where = f"{path}.mountPoint"
    scheme, separator, rest = mount.mount_point.partition("://")
    if not separator and not mount.mount_point.startswith("/") and ":" not in mount.mount_point:
        yield Problem(where, f"is {mount.mount_point!r}; write it like juicefs://name, s3://bucket/path or pvc://claim")
    elif scheme == "pvc":
        if not rest or "/" in rest.strip("/"):
            yield Problem(where, f"is {mount.mount_point!r}; write it as pvc://claim, without a path below it")
        else:
            yield from check_subdomain(where, rest.strip("/"), what="a claim of the same namespace")
    elif scheme == "dataset":
        parts = rest.split("/")
        if len(parts) < 2 or not all(is_dns_label(part) for part in parts[:2]) or ".." in parts:
            yield Problem(
                where,
                f"is {mount.mount_point!r}; write it as dataset://namespace/name or dataset://namespace/name/path",
            )
    if "/" in mount.name or ".." in mount.name:
        yield Problem(f"{path}.name", f"is {mount.name!r}; it must be without '/' and '..'; use path for the place")
    if mount.path:
        yield from check_absolute(f"{path}.path", mount.path)
    yield from _encrypt_options(f"{path}.encryptOptions", mount.encrypt_options, mount.options)


def _encrypt_options(path: str, secret: Sequence[EncryptOption], plain: Mapping[str, str]) -> Problems:
    yield from check_unique(path, (option.name for option in secret), "name")
    for index, option in enumerate(secret):
        where = f"{path}[{index}]"
        if not option.name:
            yield Problem(f"{where}.name", "is required")
        if option.name in plain:
            yield Problem(
                f"{where}.name", f"is {option.name!r}, which is among the plain options too; keep one of them"
            )
        source = option.value_from.secret_key_ref
        if source is None:
            yield Problem(f"{where}.valueFrom.secretKeyRef", "is required: the Secret's name and key")
        else:
            yield from check_subdomain(f"{where}.valueFrom.secretKeyRef.name", source.name, what="the Secret's name")
            if not source.key:
                yield Problem(f"{where}.valueFrom.secretKeyRef.key", "is required: the key in the Secret")


def check_runtime(runtime: ThinRuntime) -> Problems:
    """Report what is wrong with a ThinRuntime."""
    spec = runtime.spec
    if spec.profile_name:
        yield from check_subdomain("spec.profileName", spec.profile_name, what="a ThinRuntimeProfile's name")
    yield from _fuse("spec.fuse", spec.fuse)
    yield from _worker("spec.worker", spec.worker)
    yield from check_volumes("spec.volumes", spec.volumes)
    if spec.replicas < 0:
        yield Problem("spec.replicas", f"is {spec.replicas}; it must be 0 or more")
    for index, level in enumerate(spec.tieredstore.levels):
        if level.quota is not None:
            yield from check_quantity(f"spec.tieredstore.levels[{index}].quota", level.quota)


def check_profile(profile: ThinRuntimeProfile) -> Problems:
    """Report what is wrong with a ThinRuntimeProfile."""
    spec = profile.spec
    if not _FILE_SYSTEM_TYPE.fullmatch(spec.file_system_type):
        what = f"is {spec.file_system_type!r}; it must be" if spec.file_system_type else "is required:"
        yield Problem(
            "spec.fileSystemType",
            f"{what} the mount's type as /proc/self/mountinfo shows it after 'fuse.', such as juicefs",
        )
    yield from _fuse("spec.fuse", spec.fuse)
    yield from _worker("spec.worker", spec.worker)
    yield from check_volumes("spec.volumes", spec.volumes)
    for field, component in (("fuse", spec.fuse), ("worker", spec.worker)):
        yield from _mounts_known(f"spec.{field}.volumeMounts", component.volume_mounts, spec.volumes)
    if spec.restrict is not None:
        for index, namespace in enumerate(spec.restrict.namespaces):
            if not is_dns_label(namespace):
                yield Problem(f"spec.restrict.namespaces[{index}]", f"is {namespace!r}; it must be a namespace's name")


def _mounts_known(path: str, mounts: Sequence[VolumeMount], volumes: Sequence[Volume]) -> Problems:
    names = {volume.name for volume in volumes}
    for index, mount in enumerate(mounts):
        if mount.name not in names:
            yield Problem(f"{path}[{index}].name", f"is {mount.name!r}, which is not in spec.volumes")


def _fuse(path: str, fuse: ThinFuseSpec) -> Problems:
    yield from check_one_of(f"{path}.cleanPolicy", fuse.clean_policy, _CLEAN_POLICIES)
    yield from _component(path, fuse)
    if fuse.lifecycle is not None and fuse.lifecycle.post_start is not None:
        yield Problem(f"{path}.lifecycle.postStart", "may not be given, as in Fluid; only preStop may")


def _worker(path: str, worker: ThinWorkerSpec) -> Problems:
    yield from _component(path, worker)
    if worker.replicas < 0:
        yield Problem(f"{path}.replicas", f"is {worker.replicas}; it must be 0 or more")


def _component(path: str, component: ThinFuseSpec | ThinWorkerSpec) -> Problems:
    yield from check_one_of(f"{path}.imagePullPolicy", component.image_pull_policy, _PULL_POLICIES)
    yield from check_env(f"{path}.env", component.env)
    yield from check_resources(f"{path}.resources", component.resources)
    for index, mount in enumerate(component.volume_mounts):
        yield from check_absolute(f"{path}.volumeMounts[{index}].mountPath", mount.mount_path)
    if component.image_tag and ":" in component.image.rpartition("/")[2]:
        yield Problem(
            f"{path}.imageTag", f"is {component.image_tag!r}, but the image {component.image!r} has a tag already"
        )


def check_data_load(load: DataLoad) -> Problems:
    """Report what is wrong with a DataLoad."""
    spec = load.spec
    yield from check_subdomain("spec.dataset.name", spec.dataset.name, what="the Dataset's name")
    yield from _same_namespace(spec.dataset.namespace, load.metadata.namespace)
    yield from check_unique("spec.target", (target.path for target in spec.target), "path")
    for index, target in enumerate(spec.target):
        yield from check_absolute(f"spec.target[{index}].path", target.path)
        if target.replicas < 0:
            yield Problem(f"spec.target[{index}].replicas", f"is {target.replicas}; it must be 0 or more")
    if spec.policy == "Cron" and not _CRON.fullmatch(spec.schedule.strip()):
        what = f"is {spec.schedule!r}" if spec.schedule else "is required for policy Cron"
        yield Problem("spec.schedule", f"{what}; write five fields such as '0 3 * * *', or @daily")
    if spec.policy != "Cron" and spec.schedule:
        yield Problem("spec.schedule", f"means nothing with policy {spec.policy}; set policy to Cron")
    if spec.ttl_seconds_after_finished is not None:
        if spec.ttl_seconds_after_finished < 0:
            yield Problem("spec.ttlSecondsAfterFinished", "must be 0 or more")
        if spec.policy != "Once":
            yield Problem("spec.ttlSecondsAfterFinished", "means something with policy Once only")
    yield from check_resources("spec.resources", spec.resources)


def _same_namespace(namespace: str, own: str) -> Problems:
    if namespace and own and namespace != own:
        yield Problem("spec.dataset.namespace", f"is {namespace!r}; it must be the operation's own, {own!r}")


def check_data_process(process: DataProcess) -> Problems:
    """Report what is wrong with a DataProcess."""
    spec = process.spec
    yield from check_subdomain("spec.dataset.name", spec.dataset.name, what="the Dataset's name")
    yield from _same_namespace(spec.dataset.namespace, process.metadata.namespace)
    yield from check_absolute("spec.dataset.mountPath", spec.dataset.mount_path)
    yield from check_relative("spec.dataset.subPath", spec.dataset.sub_path)
    job, script = spec.processor.job, spec.processor.script
    if (job is None) == (script is None):
        yield Problem("spec.processor", "must have exactly one of job and script")
    if job is not None and job.pod_spec is None:
        yield Problem("spec.processor.job.podSpec", "is required")
    if job is not None and job.pod_spec is not None:
        yield from check_pod_spec("spec.processor.job.podSpec", job.pod_spec)
    if script is not None:
        yield from _script("spec.processor.script", script, spec.dataset.mount_path)


def _script(path: str, script: ScriptProcessor, dataset_path: str) -> Problems:
    if not script.source:
        yield Problem(f"{path}.source", "is required: the script")
    if not script.image:
        yield Problem(f"{path}.image", "is required")
    yield from check_env(f"{path}.env", script.env)
    yield from check_volumes(f"{path}.volumes", script.volumes)
    yield from _mounts_known(f"{path}.volumeMounts", script.volume_mounts, script.volumes)
    for index, mount in enumerate(script.volume_mounts):
        if mount.mount_path == dataset_path:
            yield Problem(f"{path}.volumeMounts[{index}].mountPath", f"is {dataset_path!r}, where the Dataset is")
    yield from check_resources(member(path, "resources"), script.resources)
