"""Draw mosaics, training curves and evaluation pictures."""
