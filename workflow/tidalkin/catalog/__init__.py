"""The table of galaxies: read it, check it, and divide it into chunks."""
