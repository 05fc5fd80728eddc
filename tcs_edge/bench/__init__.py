"""A fair table of methods: same student, data, budget and seeds, every cell in a process of its own."""
