"""Inject generic faint light into galaxies, so that the network learns to find it."""
