# Answer the queries of the configuration, with a table and a mosaic for each, and rank the whole survey.


rule search:
    input:
        own=query_files,
        ranking=query_ranking,
        catalog=f"{RESULTS}/catalog.parquet",
        images=f"{RESULTS}/images.json",
        encoder=f"{RESULTS}/encoder/encoder.pt",
        whitening=f"{RESULTS}/whitening.npz",
        index=f"{RESULTS}/index/index.faiss",
        lists=f"{RESULTS}/index/lists.ivfdata",
        ids=f"{RESULTS}/index/ids.npy",
        vectors=f"{RESULTS}/index/vectors.npy",
        report=f"{RESULTS}/index/report.json",
    output:
        table=report(
            f"{RESULTS}/search/{{query}}/neighbours.csv",
            caption="../report/neighbours.rst",
            category="Search",
            labels={"query": "{query}", "figure": "table"},
        ),
        fits=f"{RESULTS}/search/{{query}}/neighbours.fits",
        mosaic=report(
            f"{RESULTS}/search/{{query}}/mosaic.png",
            caption="../report/mosaic.rst",
            category="Search",
            labels={"query": "{query}", "figure": "mosaic"},
        ),
    log:
        f"{RESULTS}/logs/search/{{query}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(2000),
        runtime=30,
    params:
        version=VERSIONS["search"],
        content=lambda wildcards: content_digest(query_files(wildcards)),
        settings=lambda wildcards: uses(
            f"search.queries.{wildcards.query}",
            "search.k",
            "search.radius_arcsec",
            "search.debris_weight",
            "embedding",
            "images",
        ),
    script:
        "../scripts/search.py"


# Rank the whole survey by the debris score, with no example, and draw a mosaic of the first galaxies.
rule rank:
    input:
        catalog=f"{RESULTS}/catalog.parquet",
        images=f"{RESULTS}/images.json",
        whitening=f"{RESULTS}/whitening.npz",
        debris_maps=debris_maps,
        ids=vector_ids,
    output:
        ranking=f"{RESULTS}/ranking.parquet",
        mosaic=report(
            f"{RESULTS}/ranking.png",
            caption="../report/ranking.rst",
            category="Search",
            labels={"query": "no example", "figure": "mosaic"},
        ),
    log:
        f"{RESULTS}/logs/rank.log",
    benchmark:
        f"{RESULTS}/benchmarks/rank.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        version=VERSIONS["rank"],
    script:
        "../scripts/rank.py"


# The map of the explorer: every galaxy on a plane, near its look-alikes.
rule map:
    input:
        vectors=vectors,
        ids=vector_ids,
    output:
        f"{RESULTS}/map.parquet",
    log:
        f"{RESULTS}/logs/map.log",
    benchmark:
        f"{RESULTS}/benchmarks/map.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=120,
    params:
        version=VERSIONS["map"],
        settings=uses("explorer.projection", "seed"),
    script:
        "../scripts/map.py"
