"""What Headrace puts into a cluster, as plain objects, and how they get there. One source for the command and
`deploy/`. Pure but for `apply`, which knows only the `Cluster` protocol.
"""
