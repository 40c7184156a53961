"""Plain Datasets on a real node: pods mount their claims, and one client a node serves them all."""

from __future__ import annotations

from tests.kubernetes.csi.site import Site
from tests.kubernetes.csi.test_inline import DATA, RCLONE


def test_a_pod_reads_by_the_claim_of_a_datasets_name(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    script = "cat /data/file; cat /data/sub/inner; grep ' /data ' /proc/self/mountinfo"
    project.run(project.pod("p", script, DATA))
    assert project.ends("p") == "Succeeded", project.about("p")
    said = project.logs("p")
    assert said.startswith("content\ninner\n")
    assert " - fuse.rclone " in said
    assert project.get("p")["spec"].get("initContainers") is None
    project.delete("p")
    project.until(lambda: not project.clients(), "the client is gone")
    project.until(lambda: not project.node_mounts(), "nothing is asked for")
