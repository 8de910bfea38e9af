"""Registers model versions: `edge-tools registry keygen|push|list|show|promote|pull|remove`.

A registry is a folder or a bucket; `edge.registry` defines its layout and reads it, also on boards.
"""
