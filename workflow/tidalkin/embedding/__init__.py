"""Turn images into whitened vectors."""
