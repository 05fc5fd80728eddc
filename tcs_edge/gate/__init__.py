"""Compare the numbers of a model with limits and with a baseline."""
