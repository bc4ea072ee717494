# Train the encoder (SimSiam) on all images, without labels, or take that of another run. Draw some training views.


rule views:
    input:
        images=f"{RESULTS}/images.json",
    output:
        report(
            f"{RESULTS}/encoder/views.png",
            caption="../report/views.rst",
            category="Training",
            labels={"figure": "Views of one galaxy"},
        ),
    log:
        f"{RESULTS}/logs/views.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=30,
    params:
        version=VERSIONS["views"],
        settings=uses("augment", "stretch", "seed"),
    script:
        "../scripts/views.py"


if settings.reuse.encoder:

    rule reuse_encoder:
        input:
            settings.reuse.encoder,
        output:
            f"{RESULTS}/encoder/encoder.pt",
        log:
            f"{RESULTS}/logs/reuse_encoder.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(2000),
            runtime=10,
        params:
            version=VERSIONS["reuse_encoder"],
            content=lambda wildcards: content_digest([settings.reuse.encoder]),
            settings=uses("cutouts.bands", "stretch", "encoder"),
        script:
            "../scripts/reuse_encoder.py"

else:

    rule train:
        input:
            images=images_to_train_on,
        output:
            encoder=f"{RESULTS}/encoder/encoder.pt",
            history=report(
                f"{RESULTS}/encoder/history.csv",
                caption="../report/history_table.rst",
                category="Training",
                labels={"figure": "Training history, table"},
            ),
            picture=report(
                f"{RESULTS}/encoder/history.png",
                caption="../report/history.rst",
                category="Training",
                labels={"figure": "Training history"},
            ),
            tensorboard=directory(f"{RESULTS}/encoder/tensorboard"),
        log:
            f"{RESULTS}/logs/train.log",
        benchmark:
            f"{RESULTS}/benchmarks/train.tsv"
        conda:
            ENVIRONMENT
        threads: 8
        resources:
            mem_mb=growing(8000),
            runtime=48 * 60,
            gpu=settings.compute.gpus,
        params:
            version=VERSIONS["train"],
            stamps=STAMPS,
            settings=uses("augment", "stretch", "encoder", "training", "injection", "seed"),
        script:
            "../scripts/train.py"
