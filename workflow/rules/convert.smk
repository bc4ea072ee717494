# All cutouts into one Zarr store: calibrated flux on one grid of pixels, with the sky noise and seeing beside it.


# The list of its shards stands for the store, in this rule and in those that read it. So Snakemake neither deletes the
# store before a conversion that may fail, nor takes the time of a folder, which any copy changes, for a new content.
rule convert:
    input:
        objects=f"{RESULTS}/objects.parquet",
        tars=tars,
        ledgers=ledgers,
    output:
        images=f"{RESULTS}/images.json",
        problems=f"{RESULTS}/images.problems.csv",
    log:
        f"{RESULTS}/logs/convert.log",
    benchmark:
        f"{RESULTS}/benchmarks/convert.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=12 * 60,
    params:
        version=VERSIONS["convert"],
        settings=uses("cutouts.bands", "images"),
    script:
        "../scripts/convert.py"
