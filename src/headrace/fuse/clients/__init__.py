"""Entry points of FUSE clients' containers: Fluid's contract in, the real client in the foreground.

Standard library only, because they run where the client runs.
"""
