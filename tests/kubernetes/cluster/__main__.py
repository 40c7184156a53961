"""Keep a cluster by hand, for tests that are run again and again: they take the one that KUBECONFIG names.

python -m tests.kubernetes.cluster up --nodes 1
eval "$(python -m tests.kubernetes.cluster env)"
python -m pytest --kubernetes tests/contract -k watch
python -m tests.kubernetes.cluster down
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.kubernetes.cluster import programs
from tests.kubernetes.cluster.own import OwnCluster


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=("up", "down", "env"))
    parser.add_argument(
        "--directory", type=Path, default=programs.cache() / "cluster", help="where it keeps everything"
    )
    parser.add_argument("--nodes", type=int, default=0, help="how many nodes `up` adds; each needs root")
    asked = parser.parse_args()
    cluster = OwnCluster(asked.directory.absolute())
    try:
        if asked.do == "up":
            up(cluster, asked.nodes)
        elif asked.do == "down":
            cluster.stop()
    except programs.Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    if asked.do != "down":
        print(f"export KUBECONFIG={cluster.kubeconfig}")
    return 0


def up(cluster: OwnCluster, nodes: int) -> None:
    """Start a cluster, or what is missing of it; on a failure nothing stays."""
    try:
        if not cluster.runs:
            cluster.stop()
            cluster.start()
        cluster.start_scheduler()
        while len(cluster.nodes) < nodes:
            cluster.add_node()
    except BaseException:
        cluster.stop()
        raise


if __name__ == "__main__":
    sys.exit(main())
