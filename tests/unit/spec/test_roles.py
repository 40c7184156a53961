"""A TrainJob's roles, complete: what a role does not say is the job's, what nobody says is the default."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from headrace.spec.headrace.roles import ResolvedRole, parse_gpu, resolved_roles
from headrace.spec.headrace.trainjob import SecretKey, TrainJobSpec
from headrace.spec.kind import Json


def _roles(**spec: object) -> tuple[ResolvedRole, ...]:
    return resolved_roles(msgspec.convert({"command": ["train"], **spec}, TrainJobSpec))


def test_only_a_command() -> None:
    (role,) = _roles()
    assert (role.name, role.replicas, role.command) == ("worker", 1, ("train",))
    assert (role.cpu, role.memory_bytes, role.gpus, role.shm_bytes) == (Decimal(1), Decimal(2**30), 0, Decimal(0))


def test_roles_inherit_field_by_field() -> None:
    job: Json = {
        "resources": {"cpu": 2, "memory": "4Gi", "gpu": "A100:2", "shm": "1Gi"},
        "env": {"A": "1", "B": {"secret": "s", "key": "k"}},
        "image": "train:1",
        "roles": {
            "chief": {"command": ["chief"], "resources": {"memory": "8Gi"}, "env": {"A": 2}},
            "ps": {"replicas": 2, "resources": {"gpu": 0}, "image": "ps:1"},
        },
    }
    chief, ps = _roles(**job)
    assert (chief.command, chief.cpu, chief.memory_bytes) == (("chief",), Decimal(2), Decimal(8 * 2**30))
    assert (chief.gpu_model, chief.gpus, chief.shm_bytes) == ("A100", 2, Decimal(2**30))
    assert chief.env == {"A": "2", "B": SecretKey(secret="s", key="k")}
    assert (ps.replicas, ps.gpus, ps.gpu_model, ps.image, ps.command) == (2, 0, "", "ps:1", ("train",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A100:1", ("A100", 1)), ("A100", ("A100", 1)), (2, ("", 2)), ("2", ("", 2)), (None, ("", 0))],
)
def test_gpus(text: str | int | None, expected: tuple[str, int]) -> None:
    assert parse_gpu(text) == expected


@pytest.mark.parametrize("text", ["", "A100:", "A100:x", ":1", "1.5", "-1", "A100:1:2", 0.5])
def test_what_is_no_number_of_gpus(text: str | float) -> None:
    with pytest.raises(ValueError, match="number of GPUs"):
        parse_gpu(text)
