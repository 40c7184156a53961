"""From a PVC to bytes: the wrapper, the runtimes, injection, mount modes, and the proof that a mount works."""
