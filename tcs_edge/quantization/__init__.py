"""int8: calibrated on training images, held to an accuracy by taking layers back to float."""
