"""Search a run for look-alikes and write the result."""
