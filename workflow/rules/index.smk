# All vectors in one FAISS index, with its recall against exact search.


def vectors(wildcards):
    return [f"{RESULTS}/embeddings/{shard}.npy" for shard in shards(wildcards)]


def vector_ids(wildcards):
    return [f"{RESULTS}/embeddings/{shard}.ids.npy" for shard in shards(wildcards)]


rule index:
    input:
        vectors=vectors,
        ids=vector_ids,
    output:
        index=f"{RESULTS}/index/index.faiss",
        ids=f"{RESULTS}/index/ids.npy",
        report=f"{RESULTS}/index/report.json",
    log:
        f"{RESULTS}/logs/index.log",
    benchmark:
        f"{RESULTS}/benchmarks/index.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=12 * 60,
    params:
        index=settings.index.model_dump(),
        seed=settings.seed,
    script:
        "../scripts/index.py"
