"""Quantize models to int8: calibrate on training images, and return layers to float to keep the accuracy."""
