"""The FITS layout of a cutout: reading, writing and the grid of pixels."""
