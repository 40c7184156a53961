"""What a worker's pod holds: its place in the gang, the user's own words unchanged, and nothing privileged."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import Unsupported
from headrace.jobs import gang, manifest, terms
from headrace.pods.worker import CodeSource
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POOL, QUEUE, TRAIN_JOB
from headrace.spec.names import JOB_LABEL, METERED_FINALIZER, NODE_POOL_LABEL

CLOUD: Doc[Any] = Doc(
    POOL,
    {
        "metadata": {"name": "cloud"},
        "spec": {
            "kind": "serverless",
            "nodes": {"tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]},
            "gpus": {"A100": {"resource": "nvidia.com/gpu", "podAnnotations": {"gpu": "a100"}}},
        },
    },
)


def job(name: str = "digits", status: Json | None = None, **spec: Any) -> Doc[Any]:
    placement = {"pool": "cloud", "attempt": 2, "nodes": {}}
    return Doc(
        TRAIN_JOB,
        {
            "metadata": {"name": name, "namespace": "vision", "uid": "j1"},
            "spec": {"command": ["python", "train.py"], **spec},
            "status": status or {"placement": placement},
        },
    )


def build(doc: Doc[Any], rank: int = 0) -> Json:
    member = list(gang.members(doc))[rank]
    return manifest.pod(doc, member, CLOUD, 20123, lambda _ns, digest: CodeSource("https://x/code", digest))


def env(pod: Json) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in pod["spec"]["containers"][0]["env"]}


def test_every_worker_knows_its_place_whatever_the_framework() -> None:
    found = env(build(job(workers=2), 1))
    assert found["HEADRACE_RANK"] == found["PET_NODE_RANK"] == "1"
    assert found["HEADRACE_WORLD_SIZE"] == found["PET_NNODES"] == "2"
    assert found["MASTER_ADDR"] == "digits-2-worker-0.digits-gang"
    assert found["MASTER_PORT"] == "20123"
    assert "RANK" not in found, "libraries react to it"


def test_pytorch_scripts_find_what_init_process_group_reads() -> None:
    found = env(build(job(workers=2, framework="pytorch"), 1))
    assert (found["RANK"], found["WORLD_SIZE"]) == ("1", "2")


def test_the_chief_leads() -> None:
    doc = job(roles={"worker": {"replicas": 2}, "chief": {"replicas": 1}})
    assert [(m.role.name, m.index, m.rank) for m in gang.members(doc)] == [
        ("chief", 0, 0),
        ("worker", 0, 1),
        ("worker", 1, 2),
    ]
    assert env(build(doc, 2))["MASTER_ADDR"].startswith("digits-2-chief-0.")


def test_a_framework_without_rendezvous_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"spec\.framework 'jax'"):
        build(job(framework="jax"))


def test_the_users_variables_are_there_and_cannot_change_the_rendezvous() -> None:
    found = env(build(job(env={"EPOCHS": "5", "MASTER_PORT": "1", "TOKEN": {"secret": "hf", "key": "token"}})))
    assert found["EPOCHS"] == "5"
    assert found["MASTER_PORT"] == "20123"
    assert found["TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}


def test_claims_are_ordinary_volumes_and_one_claim_is_one_volume() -> None:
    mounts = [
        {"claim": "data", "path": "/data", "readOnly": True},
        {"claim": "data", "path": "/val", "subPath": "val"},
        {"claim": "out", "path": "/out"},
    ]
    pod = build(job(mounts=mounts))
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == ["data", "out"]
    mounted = pod["spec"]["containers"][0]["volumeMounts"]
    assert mounted[0] == {"name": "claim-0", "mountPath": "/data", "readOnly": True}
    assert mounted[1] == {"name": "claim-0", "mountPath": "/val", "subPath": "val"}


def test_the_pod_goes_to_its_pool_is_metered_and_asks_for_no_privilege() -> None:
    pod = build(job(resources={"cpu": 2, "memory": "4Gi", "gpu": "A100:1", "shm": "1Gi"}))
    assert pod["metadata"]["finalizers"] == [METERED_FINALIZER]
    assert pod["metadata"]["annotations"]["gpu"] == "a100"
    assert pod["spec"]["nodeSelector"] == {NODE_POOL_LABEL: "cloud"}
    main = pod["spec"]["containers"][0]
    assert main["resources"]["requests"] == {"cpu": "2", "memory": "5Gi", "nvidia.com/gpu": "1"}
    assert main["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "shm", "mountPath": "/dev/shm"} in main["volumeMounts"]


def test_code_is_fetched_by_an_init_container_and_is_where_the_command_runs() -> None:
    pod = build(job(code={"archive": "sha256:" + "a" * 64}))
    assert pod["spec"]["initContainers"][0]["command"][-3:] == ["https://x/code", "sha256:" + "a" * 64, "/workspace"]
    assert pod["spec"]["containers"][0]["workingDir"] == "/workspace"


def test_a_gangs_port_is_its_own() -> None:
    first = manifest.free_port(job(), set())
    assert manifest.free_port(job(), set()) == first
    assert manifest.free_port(job(), {first}) != first


def test_the_service_selects_the_gang_before_it_is_ready() -> None:
    service = manifest.service(job(), 20123)
    assert service["spec"]["selector"] == {JOB_LABEL: "digits"}
    assert service["spec"]["publishNotReadyAddresses"] is True


def earlier(name: str, minutes: int) -> Doc[Any]:
    attempt = {
        "attempt": 1,
        "outcome": "Succeeded",
        "startedAt": "2026-11-23T10:00:00Z",
        "endedAt": f"2026-11-23T10:{minutes:02}:00Z",
    }
    doc = job(name, {"attempts": [attempt]})
    doc.raw["metadata"]["uid"] = name
    return doc


def test_the_expected_duration_comes_from_the_job_then_its_history_then_the_queue() -> None:
    queue: Doc[Any] = Doc(QUEUE, {"metadata": {"name": "q"}, "spec": {"expectedDuration": "3h"}})
    history = [earlier("digits-1", 10), earlier("digits-2", 20), earlier("digits-3", 30), earlier("other", 50)]
    assert terms.expected_duration(job("digits-9", expectedDuration="2h"), queue, history) == (
        7200,
        "spec.expectedDuration",
    )
    assert terms.expected_duration(job("digits-9"), queue, history) == (1200, "median of 3 earlier runs of digits")
    assert terms.expected_duration(job("new"), queue, history) == (10800, "queue q")


def test_without_a_queue_no_money_is_spent() -> None:
    assert not terms.burst_terms(None).allowed
    assert terms.burst_terms(Doc(QUEUE, {"metadata": {"name": "q"}, "spec": {}})).allowed
