"""The Tailored Coordinate System (arXiv 2412.09388) on tensors, without files or console output."""
