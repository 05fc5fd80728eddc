"""Write the bundle: the folder for a device."""
