"""`deploy/` and the Containerfile say what the code says."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.install.installation import Installation
from headrace.install.objects import objects
from headrace.spec.kind import Json

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = ROOT / "Containerfile"


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("deploy_tool", ROOT / "tools" / "deploy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITTEN: dict[str, str] = _tool().files()


def test_the_files_are_what_the_code_makes() -> None:
    there = {path.name: path.read_text() for path in DEPLOY.iterdir()}
    assert there == WRITTEN, "run .venv/bin/python tools/deploy.py"


def built(directory: Path) -> list[Json]:
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    done = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_kustomize_makes_what_the_command_applies() -> None:
    def by_text(bodies: list[Json]) -> list[str]:
        return sorted(json.dumps(body, sort_keys=True) for body in bodies)

    assert by_text(built(DEPLOY)) == by_text(objects(Installation()))


def test_an_image_that_is_named_once_is_every_process_s(tmp_path: Path) -> None:
    for path in DEPLOY.iterdir():
        text = path.read_text()
        if path.name == "kustomization.yaml":
            body = yaml.safe_load(text)
            body["images"] = [{"name": "headrace", "newName": "registry.test/headrace", "newTag": "1"}]
            text = yaml.safe_dump(body)
        (tmp_path / path.name).write_text(text)
    wanted = objects(Installation(image="registry.test/headrace:1"))
    assert all(body in wanted for body in built(tmp_path))


# -- the image -----------------------------------------------------------------------------------------------------------


def instructions() -> list[list[str]]:
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if line and not line.startswith("#")]
    return [shlex.split(line) for line in lines]


def test_what_is_copied_into_the_image_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".containerignore").read_text().split()
    kept = [line[1:] for line in lines if line.startswith("!")]
    copied = [name for words in instructions() if words[0] == "COPY" for name in words[1:-1]]
    sources = [name for name in copied if not name.startswith(("--from", "/"))]
    assert sources
    for name in sources:
        assert (ROOT / name).exists()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept), name


def test_the_image_is_nobody_s() -> None:
    last_stage = max(i for i, words in enumerate(instructions()) if words[0] == "FROM")
    assert ["USER", "65534:65534"] in instructions()[last_stage:]


PROGRAMS = sorted(
    {
        container["command"][2]
        for body in objects(Installation())
        if body["kind"] in {"Deployment", "DaemonSet"}
        for container in body["spec"]["template"]["spec"]["containers"]
    }
)


@pytest.mark.parametrize("module", [*PROGRAMS, "headrace.csi.rpc.check", "headrace.fuse.native"])
def test_what_the_containers_start_can_be_imported(module: str) -> None:
    assert importlib.import_module(module)
