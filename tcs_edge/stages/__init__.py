"""Stages of a run: one public function each, from typed arguments to return values."""
