"""Does the proof catch what it must? Good artifacts, faults put into them on purpose, and a count of both."""
