"""Searches for the student that learns most from the teacher on the user's images."""
