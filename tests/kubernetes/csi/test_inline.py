"""A sidecar without privilege on a real kubelet: what starts, what is seen, and what is left."""

from __future__ import annotations

from tests.kubernetes.csi.site import Site

RCLONE = ("sh", "-c", 'exec rclone mount --config /dev/null --allow-non-empty :local:/srv "$MOUNT_POINT"')


def test_an_app_reads_what_an_unprivileged_client_serves(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    script = "cat /data/file; cat /data/sub/inner; grep ' /data ' /proc/self/mountinfo; grep CapEff /proc/self/status"
    name = site.run(site.pod("p", script, {"set": {"mountPath": "/data"}}, dataset))
    assert site.ends(name) == "Succeeded", site.events(name)
    said = site.logs(name)
    assert said.startswith("content\ninner\n")
    assert " - fuse.rclone " in said
    assert "CapEff:\t0000000000000000" in said
    uid = site.get(name)["metadata"]["uid"]
    site.until(lambda: not site.mounts_of(uid), "nothing is mounted any more")
