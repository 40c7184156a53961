"""Volumes of pods: files from objects, directories, claims and drivers, and how containers see them."""
