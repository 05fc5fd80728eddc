"""Test the validation: break good exports on purpose, and count detected faults and false alarms."""
