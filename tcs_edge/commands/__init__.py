"""Run commands without a run folder: compare any two models, inspect the installation."""
