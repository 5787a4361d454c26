"""Whether this machine computes what it should, and how fast: the command `selfcheck`."""
