"""The Tailored Coordinate System (arXiv 2412.09388): pure tensors, no files, no console."""
