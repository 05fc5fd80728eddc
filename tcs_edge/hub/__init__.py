"""Publish runs on the Hugging Face hub, and download them."""
