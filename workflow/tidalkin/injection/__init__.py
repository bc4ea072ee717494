"""Inject generic faint light into galaxies, so that the network learns what it changes."""
