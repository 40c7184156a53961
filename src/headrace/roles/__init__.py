"""The composition root: one file a process, and only here are concrete parts wired together."""
