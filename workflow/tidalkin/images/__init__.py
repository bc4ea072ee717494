"""The image store: one sharded Zarr array of calibrated flux, and its conversion from cutouts."""
