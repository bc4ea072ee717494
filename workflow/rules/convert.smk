# All cutouts into one Zarr store: calibrated flux on one grid of pixels, with the sky noise and seeing beside it.


rule convert:
    input:
        objects=f"{RESULTS}/objects.parquet",
        tars=tars,
        ledgers=ledgers,
    output:
        images=directory(f"{RESULTS}/images.zarr"),
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
        settings=uses("cutouts.bands", "images"),
    script:
        "../scripts/convert.py"
