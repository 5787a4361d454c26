"""The published checkpoints by name."""

from __future__ import annotations

from . import layouts

PUBLISHED = {entry.name: entry for module in layouts() for entry in module.PUBLISHED}
