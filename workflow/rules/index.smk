# All vectors in one FAISS index, with its recall against exact search.


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
