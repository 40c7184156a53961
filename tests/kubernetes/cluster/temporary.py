"""A cluster for as long as a run lasts: taken down however the run ends, after `kill -9` by the next run.

Each is registered in a file that its run keeps locked. The kernel gives up the lock with the run, however that ends; so a
file that can be locked is one of a run that is gone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
from tests.interruption import uninterrupted
from tests.kubernetes.cluster import programs
from tests.kubernetes.cluster.own import OwnCluster, users
from tests.kubernetes.cluster.processes import END_S


@contextmanager
def temporary(directory: Path, *, calls_pods: bool = False) -> Iterator[OwnCluster]:
    """Yield a cluster that is not started yet, and leave nothing of it; first remove what killed runs have left."""
    remove_abandoned()
    own = OwnCluster(directory, calls_pods=calls_pods)
    with _registered(directory) as file:
        try:
            yield own
        finally:
            with uninterrupted():
                own.stop()
                file.unlink()


def remove_abandoned() -> list[Path]:
    """Take down the clusters of runs that are gone, and return their directories. Idempotent."""
    removed = []
    for file in registry().glob("*.cluster"):
        with file.open() as record:
            if not _locked(record) or not os.fstat(record.fileno()).st_nlink:
                continue  # its run goes on, or another run has just removed it
            directory = Path(record.read())
            _end(users(directory))  # those of the run too, such as controllers that a test started
            OwnCluster(directory).stop()
            file.unlink()
            removed.append(directory)
    return removed


def registry() -> Path:
    """Return where runs register their clusters."""
    return programs.cache() / "running"


@contextmanager
def _registered(directory: Path) -> Iterator[Path]:
    """Register a cluster for as long as the context lasts; yields the file, which whoever takes it down deletes."""
    registry().mkdir(parents=True, exist_ok=True)
    file = registry() / f"{secrets.token_hex(8)}.cluster"
    new = file.with_suffix(".new")
    with new.open("w") as record:
        record.write(str(directory.absolute()))
        record.flush()
        assert _locked(record)
        new.rename(file)  # whoever finds it finds it whole and locked
        yield file


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=END_S)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
