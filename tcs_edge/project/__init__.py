"""A project's `tcs-edge.toml`: read it, or write a commented one."""
