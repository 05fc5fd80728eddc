"""The gate: what is known of a model, the limits it has to meet, and whether it does."""
