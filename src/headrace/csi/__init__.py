"""The volume driver `fuse.headrace.io`: CSI's node verbs over a world and its FUSE broker."""
