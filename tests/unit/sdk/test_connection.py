"""Which cluster is meant, and that a stopped engine of this machine is never silently replaced by another cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import Unavailable
from headrace.sdk import connection
from headrace.sdk.connection import kubeconfig_path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it."""
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "engine"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT_TOKEN", tmp_path / "token")
    return tmp_path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_nothing_at_all(machine: Path) -> None:
    with pytest.raises(Unavailable, match=r"no Headrace running here and no kubeconfig.*headrace up"):
        kubeconfig_path()


def test_a_running_engine_comes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = touch(machine / "engine" / "kubeconfig")
    touch(machine / "engine" / "run" / "supervisor.sock")
    monkeypatch.setenv("KUBECONFIG", str(touch(machine / "named")))
    assert kubeconfig_path() == own


def test_a_named_kubeconfig_stands_in_for_a_stopped_engine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(machine / "engine" / "kubeconfig")
    named = touch(machine / "named")
    monkeypatch.setenv("KUBECONFIG", f"{machine / 'missing'}:{named}")
    assert kubeconfig_path() == named


def test_the_usual_kubeconfig_does_not_stand_in_for_a_stopped_engine(machine: Path) -> None:
    usual = touch(machine / "user" / ".kube" / "config")
    assert kubeconfig_path() == usual
    touch(machine / "engine" / "kubeconfig")
    with pytest.raises(Unavailable, match=r"not running on this machine.*headrace up"):
        kubeconfig_path()


def test_what_is_said_explicitly_wins_and_must_exist(machine: Path) -> None:
    explicit = touch(machine / "explicit")
    touch(machine / "engine" / "kubeconfig")
    assert kubeconfig_path(str(explicit)) == explicit
    with pytest.raises(Unavailable, match="does not exist"):
        kubeconfig_path(str(machine / "nowhere"))


def test_in_a_pod_its_service_account_is_used(machine: Path) -> None:
    touch(machine / "token")
    assert kubeconfig_path() is None
