"""A project's `tcs-edge.toml`: reading it, and writing a commented one."""
