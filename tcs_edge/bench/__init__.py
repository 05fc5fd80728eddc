"""A fair table of methods: same student, data, budget and seeds, every run in a process of its own."""
