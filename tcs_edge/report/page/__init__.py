"""The report as one HTML page: no network, no script unless asked for, readable without colors."""
