"""FUSE for people without privilege: mount(2) by a broker, the stand-in for fusermount3, probing, and the clients.

Holds no Headrace concept. What runs inside worlds and containers (`broker`, `standin`, `served`, `clients`) imports
the standard library only.
"""
