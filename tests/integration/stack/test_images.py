"""A job whose image comes from a registry by a mirror, as people submit it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.images import busybox
from tests.installation import installed
from tests.integration.stack.stack import Stack, stack_of
from tests.registry import Registry, programs, running_registry

from headrace.sandbox.testing import missing_features

IMAGE = "registry.corp.example/lab/box:1"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, IMAGES ARE NOT RUN: {why}")
    with running_registry(tmp_path_factory.mktemp("r")) as registry:
        registry.push("lab/box", "1", busybox((programs() / "busybox").read_bytes()))
        yield registry


def test_a_job_of_an_image_runs_where_its_code_is(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    (tmp_path / "train.sh").write_text(
        "echo $FROM rank $HEADRACE_RANK of $HEADRACE_WORLD_SIZE; test -e /bin/python || echo none\n"
    )
    with installed(tmp_path_factory.mktemp("i")) as installation:
        installation.up("--mirror", f"registry.corp.example={registry.url}")
        with stack_of(installation) as stack:
            submit(stack, tmp_path)
            job = stack.ended("box")
            assert job.status["phase"] == "Succeeded"
            assert sorted(stack.log("box")) == ["image rank 0 of 2", "image rank 1 of 2", "none", "none"]


def submit(stack: Stack, code: Path) -> None:
    words = ["run", "--name", "box", "--image", IMAGE, "-w", "2", "--cpu", "100m", "--memory", "64Mi", "--detach"]
    stack.installation.run(*words, "--code", str(code), "--", "sh", "train.sh")
