# Build one FAISS index of all vectors, and measure its recall against exact search. Up to `index.shards_per_part`
# shards, one job does it. With more, `index_train` trains the index, each `index_part` adds one part of the shards, and
# `index` joins the parts. Only `index` names the vectors' ids as input. Each named file lengthens the plan, and no rule
# but `index` uses the trained index and the parts, which are temporary.


rule index_train:
    input:
        vectors=vectors,
    output:
        temp(f"{RESULTS}/index/parts/trained.faiss"),
    log:
        f"{RESULTS}/logs/index_train.log",
    benchmark:
        f"{RESULTS}/benchmarks/index_train.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=12 * 60,
    params:
        version=VERSIONS["index_train"],
        settings=uses("index", "seed"),
    script:
        "../scripts/index_train.py"


rule index_part:
    input:
        trained=f"{RESULTS}/index/parts/trained.faiss",
        vectors=part_vectors,
    output:
        temp(f"{RESULTS}/index/parts/{{part}}.faiss"),
    log:
        f"{RESULTS}/logs/index_part/{{part}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index_part/{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(2000),
        runtime=4 * 60,
    params:
        version=VERSIONS["index_part"],
    script:
        "../scripts/index_part.py"


rule index:
    input:
        unpack(index_parts),
        vectors=vectors,
        ids=vector_ids,
    output:
        index=f"{RESULTS}/index/index.faiss",
        lists=f"{RESULTS}/index/lists.ivfdata",
        ids=f"{RESULTS}/index/ids.npy",
        vectors=f"{RESULTS}/index/vectors.npy",
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
        version=VERSIONS["index"],
        settings=uses("index", "seed"),
    script:
        "../scripts/index.py"
