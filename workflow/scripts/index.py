"""Index all vectors, and measure the index against exact search.

In: the embeddings. Out: the FAISS index, its ids, a report.
"""

from pathlib import Path

from tidalkin.config import Index
from tidalkin.index import build_index
from tidalkin.stage import stage

with stage(snakemake.log):
    build_index(
        snakemake.input.vectors,
        Index(**snakemake.params.index),
        Path(snakemake.output.index).parent,
        seed=snakemake.params.seed,
    )
