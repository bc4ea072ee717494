"""Build the index of all vectors, and measure it against exact search.

In: the embeddings; for an index in parts also the trained index and the parts, which are joined.
Out: the FAISS index, its ids and a report.
"""

from pathlib import Path

from tidalkin.index.build import build_index, merge_parts
from tidalkin.stage import stage

with stage(snakemake) as settings:
    files = snakemake.input.vectors
    directory = Path(snakemake.output.index).parent
    if snakemake.input.get("parts"):
        merge_parts(snakemake.input.trained, snakemake.input.parts, files, settings.index, directory, settings.seed)
    else:
        build_index(files, settings.index, directory, settings.seed)
