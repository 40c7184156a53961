"""OCI images on a node: named, pulled from registries, unpacked without root, kept, and thrown away when nobody uses them.

`reference`, `credentials`, `registries`, `manifest`, `policy`, `accounts` and `command` are pure; `registry` speaks the
distribution protocol; `tree`, `layers` and `store` are the disk; `puller` and `images` join them. Nothing here knows a
pod's life: a container's image and its pull secrets come in, a root and a program come out.
"""
