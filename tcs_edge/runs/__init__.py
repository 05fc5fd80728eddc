"""The run folder and its manifest: what a run leaves behind."""
