"""`MountVerified`: a mount is believed when a pod of the pool has really listed it, and not before."""
