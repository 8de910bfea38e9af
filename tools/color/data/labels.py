"""The labels that an object may get: a basic color term, `mixed` or `unclear`."""

from __future__ import annotations

from edge.color import TERMS

MIXED = "mixed"  # several colors, none of which dominates
UNCLEAR = "unclear"  # too dark, blurred or hidden to name
LABELS = (*TERMS, MIXED, UNCLEAR)
