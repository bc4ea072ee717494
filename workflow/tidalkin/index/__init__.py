"""The FAISS index: build it, tune it, and query it."""
