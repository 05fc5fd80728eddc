"""The folder that goes to a device."""
