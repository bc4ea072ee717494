"""Download from the HSC archive: the cutout service, coadd patches, and the catalog server."""
