"""Clients that serve a Dataset to whole nodes: NodeMounts asked for by volume drivers become pods, and get an answer."""
