"""csi-sanity, the conformance test of Kubernetes' storage group, against the driver's Identity and Node services.

It needs volumes to publish: a controller beside the driver (tests/integration/fuse/node_plugin.py) "creates" inline
volumes of a pod, or PersistentVolumes whose client serves already. Snapshots, groups, expansion and staging are not the driver's, and csi-sanity skips them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.fuse.conftest import IS_ROOT
from tests.integration.fuse.test_node_plugin import Plugin
from tests.kubernetes.cluster import programs
from tests.kubernetes.fixtures import made_or_skipped
from tests.native import compiled

_SOURCE = Path(__file__).with_name("sanity")
_MODULE = "github.com/kubernetes-csi/csi-test/v5"


def _csi_sanity() -> Path:
    found = re.search(rf"{re.escape(_MODULE)} (v\S+)", (_SOURCE / "go.mod").read_text())
    assert found
    return programs._made(programs.cache() / f"csi-sanity-{found[1]}", _build) / "csi-sanity"


def _build(into: Path) -> None:
    if not shutil.which("go"):
        raise programs.Missing("Go is missing, with which csi-sanity is built. THE DRIVER'S CSI IS NOT CHECKED.")
    command = ["nice", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(into), f"{_MODULE}/cmd/csi-sanity"]
    subprocess.run(command, cwd=_SOURCE, env={**os.environ, "CGO_ENABLED": "0"}, check=True)


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plugin]:
    if not IS_ROOT:
        pytest.skip("the driver of a real node is root")
    with tempfile.TemporaryDirectory(prefix="hr-fuse-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        (Path(place) / "storage").mkdir()
        (Path(place) / "storage" / "file").write_text("content")
        made = Plugin(Path(place), compiled(tmp_path / "programs"), request.param)
        if request.param == "persistent":
            for role in ("data", "socket"):
                made.publish(role)
            made.serve()
        yield made
        made.close()


@pytest.mark.parametrize(("plugin", "pod"), [("inline", "u1"), ("persistent", "u2")], indirect=["plugin"])
def test_csi_sanity_finds_nothing(plugin: Plugin, pod: str) -> None:
    sanity = made_or_skipped(_csi_sanity)
    place = plugin.directory / "pods" / pod
    place.mkdir(parents=True, exist_ok=True)
    options = {
        "csi.endpoint": plugin.socket,
        "csi.controllerendpoint": f"unix://{plugin.directory}/controller.sock",
        "csi.mountdir": f"{place}/sanity",
        "csi.stagingdir": f"{place}/staging",
        "ginkgo.focus": "Identity Service|Node Service",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(plugin.enter(str(sanity), *words), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:]
    ran = re.search(r"(\d+) Passed \S* ?\| .*?0 Failed", re.sub(r"\x1b\[\S*?m", "", done.stdout))
    assert ran, done.stdout[-2000:]
    assert int(ran[1]) >= 15, done.stdout[-2000:]
