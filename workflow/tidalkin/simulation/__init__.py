"""Simulated galaxies: their parameters, their tidal features, and how they are drawn."""
