"""Results in, words out: nothing here computes a result."""
