"""Admission webhooks: who is asked (`matching`), what (`review`), over which line (`caller`), in which order (`dispatch`)."""
