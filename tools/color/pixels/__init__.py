"""Pixels of an object: its mask, and the names of their colors."""
