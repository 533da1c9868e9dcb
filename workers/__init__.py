"""Everything that runs on a node."""
