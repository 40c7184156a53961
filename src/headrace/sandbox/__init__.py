"""Worlds: namespaces, pid 1s, containers and the processes around them, for an ordinary user. Standard library only.

A world is one node's pid 1 in user, mount and PID namespaces of its own. It takes orders on a Unix socket (`world.py`),
holds mounts, and runs pods. Killing it makes everything in it vanish. Nothing here knows Kubernetes or Headrace.
"""
