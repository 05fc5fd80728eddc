"""Schemas of what users write: configurations, targets, profiles."""
