"""Sources of cutouts: the simulation, a folder, and the archives."""
