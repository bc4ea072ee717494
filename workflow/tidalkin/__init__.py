"""tidalkin: find galaxies that look like the one you point at, in Hyper Suprime-Cam images."""

__version__ = "0.1.0"
