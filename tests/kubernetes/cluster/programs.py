"""The programs of a cluster: Kubernetes and etcd built once from their Go modules, the rest from Debian's packages.

They are kept by version outside the tree, in `$XDG_CACHE_HOME/headrace-tests/kubernetes` (`~/.cache/…`). Nothing is
installed on the machine: packages are unpacked beside the programs. What is made is made whole or not at all, and two
runs at the same moment wait for each other.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "programs"
BUILT = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "etcd": "go.etcd.io/etcd/server/v3",
    "pause": "./pause",
}
PACKAGED = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
}
NETWORK_PLUGINS = "containernetworking-plugins"
PYTHON = ("python3-minimal", "perl-base", "dash", "coreutils")
_INSTALLERS = {"dpkg", "debconf", "debconf-2.0", "cdebconf"}
REGISTRY = {"docker-registry": "docker-registry", "busybox": "busybox-static"}
"""What tests of images need, on a machine that has no cluster too."""


class Missing(Exception):
    """This machine lacks something that a cluster needs. The text says what, and what cannot be tested without it."""


def version() -> str:
    """Return the version of Kubernetes that `programs/go.mod` names, such as `v1.36.3`."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    assert found, "programs/go.mod requires no k8s.io/kubernetes"
    return found[1]


def cache() -> Path:
    """Return where programs are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "headrace-tests" / "kubernetes"


def control_programs() -> Path:
    """Return the directory that holds every program of `BUILT`; builds them when they are not there yet (minutes)."""
    return _made(cache() / version(), _build)


def node_programs() -> Path:
    """Return a directory whose `bin` holds every program of `PACKAGED`, and whose `cni` the network plugins."""
    return _made(cache() / "debian", _unpack)


def registry_programs() -> Path:
    """Return the directory that holds every program of `REGISTRY`."""
    return _made(cache() / "registry", lambda into: _collect(REGISTRY, into)) / "bin"


def python_packages() -> Path:
    """Return a directory with Debian's packages of a small Python, and all that they need, as they are (`*.deb`)."""
    return _made(cache() / "python-packages", _fetch_closure)


def _fetch_closure(into: Path) -> None:
    if not shutil.which("apt-cache"):
        raise Missing("This is no Debian to take packages from. No image of many layers is tested.")
    others = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in others), *PYTHON]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {line for line in said.splitlines() if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", line)} - _INSTALLERS
    done = subprocess.run(["apt-get", "download", "-qq", *sorted(names)], cwd=into, capture_output=True, text=True)
    if done.returncode:
        raise Missing(
            f"{', '.join(sorted(names))} cannot be downloaded: {done.stderr.strip()}. No such image is tested."
        )


def _build(into: Path) -> None:
    if not shutil.which("go"):
        raise Missing(
            "Go is missing, with which kube-apiserver and its like are built. Nothing is tested against a real "
            "Kubernetes. Install Go 1.26 or newer, or set KUBECONFIG to a cluster that tests may use."
        )
    print(f"building Kubernetes {version()} for the tests, once: some minutes", file=sys.stderr, flush=True)
    major, minor = version().removeprefix("v").split(".")[:2]
    said = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(["-s", "-w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in said.items())])
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -mod=readonly"}
    for name, package in BUILT.items():
        subprocess.run(
            ["nice", "go", "build", "-ldflags", flags, "-o", into / name, package],
            cwd=SOURCE,
            env=environment,
            check=True,
        )


def _unpack(into: Path) -> None:
    plugins = next((place for place in ("/usr/lib/cni", "/opt/cni/bin") if Path(place, "bridge").exists()), None)
    _collect(PACKAGED, into, () if plugins else (NETWORK_PLUGINS,))
    (into / "cni").symlink_to(plugins or "packages/usr/lib/cni")


def _collect(programs: Mapping[str, str], into: Path, more: Sequence[str] = ()) -> None:
    """Put programs into `bin`: those that are installed, else those of Debian's packages, which are unpacked."""
    (into / "bin").mkdir()
    installed = {name: shutil.which(name) for name in programs}
    wanted = {programs[name] for name, place in installed.items() if not place} | {*more}
    packages = into / "packages"
    packages.mkdir()
    if wanted:
        _download(sorted(wanted), packages)
    for name, place in installed.items():
        (into / "bin" / name).symlink_to(place or _unpacked(packages, programs[name], name))


def _unpacked(packages: Path, package: str, name: str) -> Path:
    found = next(
        (
            packages / place / name
            for place in ("usr/bin", "usr/sbin", "bin", "sbin")
            if (packages / place / name).exists()
        ),
        None,
    )
    if found is None:
        raise Missing(f"{name} is not where Debian's package {package} had it. Nothing that needs it is tested.")
    return ".." / found.relative_to(packages.parent)


def _download(names: list[str], into: Path) -> None:
    if not shutil.which("apt-get"):
        raise Missing(
            f"{', '.join(names)} are missing, and this is no Debian to take them from. Nothing that needs a node is "
            "tested. Install them."
        )
    command = ["apt-get", "download", "-qq", *names]
    if subprocess.run(command, cwd=into, capture_output=True).returncode:
        if os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
        done = subprocess.run(command, cwd=into, capture_output=True, text=True)
        if done.returncode:
            raise Missing(
                f"{', '.join(names)} cannot be downloaded: {done.stderr.strip()}. Nothing that needs a node is tested."
            )
    for package in into.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, into], check=True)
        package.unlink()


def _made(place: Path, make: Callable[[Path], None]) -> Path:
    """Return `place`, first made by `make` in a directory beside it when it is not there."""
    with _locked(place.with_name(f"{place.name}.lock")):
        if not place.exists():
            begun = place.with_name(f"{place.name}.begun")
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir()
            make(begun)
            begun.rename(place)
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
