"""Commands that are not a run: compare any two models, inspect the installation."""
