"""A run from end to end, and its plan."""
