"""Small helpers without knowledge of the domain: files, progress, threads, clocks."""
