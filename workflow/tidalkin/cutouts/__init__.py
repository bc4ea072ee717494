"""The FITS layout of a cutout: read it, write it, and place it on a grid of pixels."""
