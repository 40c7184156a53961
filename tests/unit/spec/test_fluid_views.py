"""Fluid's kinds have all fields of Fluid, by the JSON names of its Go types, and few others."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from headrace.spec.core.meta import PodMetadata
from headrace.spec.fluid import dataset, operation, runtime
from headrace.spec.kind import Doc
from headrace.spec.kinds import DATA_LOAD, DATASET, THIN_RUNTIME, THIN_RUNTIME_PROFILE

FLUID: dict[str, list[str]] = json.loads(Path(__file__).with_name("fluid_v1_0_8.json").read_text())
"""Struct to JSON names, taken from `api/v1alpha1` of Fluid v1.0.8."""

VIEWS: dict[str, type[msgspec.Struct]] = {
    "SecretKeySelector": dataset.SecretKeySelector,
    "EncryptOptionSource": dataset.EncryptOptionSource,
    "EncryptOption": dataset.EncryptOption,
    "Mount": dataset.Mount,
    "User": dataset.User,
    "CacheableNodeAffinity": dataset.CacheableNodeAffinity,
    "DataRestoreLocation": dataset.DataRestoreLocation,
    "Runtime": dataset.RuntimeReference,
    "DatasetSpec": dataset.DatasetSpec,
    "DatasetCondition": dataset.DatasetCondition,
    "HCFSStatus": dataset.HCFSStatus,
    "DatasetStatus": dataset.DatasetStatus,
    "ThinFuseSpec": runtime.ThinFuseSpec,
    "ThinCompTemplateSpec": runtime.ThinWorkerSpec,
    "Level": runtime.TieredStoreLevel,
    "TieredStore": runtime.TieredStore,
    "CleanCachePolicy": runtime.CleanCachePolicy,
    "MetadataSyncPolicy": runtime.MetadataSyncPolicy,
    "RuntimeManagement": runtime.RuntimeManagement,
    "ThinRuntimeSpec": runtime.ThinRuntimeSpec,
    "APIGatewayStatus": runtime.APIGatewayStatus,
    "RuntimeCondition": runtime.RuntimeCondition,
    "RuntimeStatus": runtime.RuntimeStatus,
    "ThinRuntimeProfileSpec": runtime.ThinRuntimeProfileSpec,
    "PodMetadata": PodMetadata,
    "TargetDataset": operation.TargetDataset,
    "TargetPath": operation.TargetPath,
    "Prefer": operation.AffinityPreference,
    "Require": operation.AffinityRequirement,
    "AffinityStrategy": operation.AffinityStrategy,
    "ObjectRef": operation.ObjectRef,
    "OperationRef": operation.OperationRef,
    "Condition": operation.OperationCondition,
    "WaitingStatus": operation.WaitingStatus,
    "OperationStatus": operation.OperationStatus,
    "DataLoadSpec": operation.DataLoadSpec,
    "TargetDatasetWithMountPath": operation.TargetDatasetWithMountPath,
    "JobProcessor": operation.JobProcessor,
    "ScriptProcessor": operation.ScriptProcessor,
    "Processor": operation.Processor,
    "DataProcessSpec": operation.DataProcessSpec,
}
EXTENSIONS = {
    "DatasetCondition": {"observedGeneration"},
    "DatasetStatus": {"observedGeneration", "pools"},
    "RuntimeCondition": {"observedGeneration"},
    "RuntimeStatus": {"observedGeneration"},
    "ThinRuntimeProfileSpec": {"restrict"},
    "OperationStatus": {"observedGeneration"},
}
"""What Headrace adds. Anything more needs a reason in its docstring."""


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_fields_are_those_of_fluid(name: str) -> None:
    ours = {field.encode_name for field in msgspec.structs.fields(VIEWS[name])}
    assert ours - set(FLUID[name]) == EXTENSIONS.get(name, set())
    assert set(FLUID[name]) - ours == set()


def test_every_struct_of_the_list_is_compared() -> None:
    assert set(FLUID) - set(VIEWS) == {"VersionSpec"}, "VersionSpec is inlined in ScriptProcessor"


def test_manifests_of_fluid_are_read() -> None:
    runtime_doc = Doc(THIN_RUNTIME, {"metadata": {"name": "demo"}, "spec": {"profileName": "nfs"}})
    assert runtime_doc.view.spec.profile_name == "nfs"
    data = Doc(
        DATASET,
        {
            "metadata": {"name": "demo", "creationTimestamp": None},
            "spec": {
                "mounts": [
                    {
                        "mountPoint": "minio://bucket",
                        "name": "minio",
                        "options": {"url": "http://minio:9000"},
                        "encryptOptions": [
                            {"name": "key", "valueFrom": {"secretKeyRef": {"name": "minio-secret", "key": "id"}}}
                        ],
                    }
                ]
            },
            "status": {"conditions": None, "hcfs": None},
        },
    )
    option = data.view.spec.mounts[0].encrypt_options[0]
    assert option.value_from.secret_key_ref == dataset.SecretKeySelector(name="minio-secret", key="id")
    load = Doc(DATA_LOAD, {"spec": {"dataset": {"name": "demo"}, "target": [{"path": "/a", "replicas": 2}]}})
    assert (load.view.spec.policy, load.view.spec.target[0].replicas) == ("Once", 2)
    profile = Doc(THIN_RUNTIME_PROFILE, {"spec": {"fileSystemType": "nfs", "fuse": {"imageTag": "v1"}}})
    assert profile.view.spec.fuse.image_tag == "v1"
