"""Index all vectors, or join the parts of the index that other jobs made, and measure it against exact search.

In: the embeddings; for an index in parts, the trained one and the parts. Out: the FAISS index, its ids, a report.
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
