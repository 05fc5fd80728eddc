"""Read and write the run folder: its files, its manifest and its records."""
