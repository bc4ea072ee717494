# Measure how well labelled galaxies are found, compared with baselines on the same images.


rule baseline_random:
    input:
        catalog=labelled_catalog,
        images=f"{RESULTS}/images.json",
    output:
        f"{RESULTS}/baselines/random.npz",
    log:
        f"{RESULTS}/logs/baseline_random.log",
    benchmark:
        f"{RESULTS}/benchmarks/baseline_random.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=4 * 60,
    params:
        version=VERSIONS["baseline_random"],
        stamps=STAMPS,
        settings=uses(
            "stretch",
            "encoder",
            "embedding",
            "augment",
            "injection",
            "evaluation.negative_label",
            "evaluation.sample",
            "seed",
        ),
    script:
        "../scripts/baseline_random.py"


rule baseline_pca:
    input:
        catalog=labelled_catalog,
        images=f"{RESULTS}/images.json",
    output:
        f"{RESULTS}/baselines/pca.npz",
    log:
        f"{RESULTS}/logs/baseline_pca.log",
    benchmark:
        f"{RESULTS}/benchmarks/baseline_pca.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=4 * 60,
    params:
        version=VERSIONS["baseline_pca"],
        stamps=STAMPS,
        settings=uses("stretch", "embedding", "injection", "evaluation.negative_label", "evaluation.sample", "seed"),
    script:
        "../scripts/baseline_pca.py"


rule baseline_morphology:
    input:
        catalog=labelled_catalog,
        images=f"{RESULTS}/images.json",
    output:
        f"{RESULTS}/baselines/morphology.npz",
    log:
        f"{RESULTS}/logs/baseline_morphology.log",
    benchmark:
        f"{RESULTS}/benchmarks/baseline_morphology.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=4 * 60,
    params:
        version=VERSIONS["baseline_morphology"],
        stamps=STAMPS,
        settings=uses("embedding.minimum_good_fraction", "injection", "evaluation.negative_label", "evaluation.sample"),
    script:
        "../scripts/baseline_morphology.py"


rule evaluate:
    input:
        catalog=labelled_catalog,
        vectors=vectors,
        vector_ids=vector_ids,
        whitening=f"{RESULTS}/whitening.npz",
        baselines=expand(
            f"{RESULTS}/baselines/{{baseline}}.npz",
            baseline=["random", "pca", "morphology"],
        ),
    output:
        metrics=report(
            f"{RESULTS}/evaluation/metrics.csv",
            caption="../report/metrics.rst",
            category="Evaluation",
            labels={"figure": "All figures, table"},
        ),
        roc=report(
            f"{RESULTS}/evaluation/roc.png",
            caption="../report/roc.rst",
            category="Evaluation",
            labels={"figure": "ROC"},
        ),
        precision_recall=report(
            f"{RESULTS}/evaluation/precision_recall.png",
            caption="../report/precision_recall.rst",
            category="Evaluation",
            labels={"figure": "Precision and recall"},
        ),
        probe=report(
            f"{RESULTS}/evaluation/probe.png",
            caption="../report/probe.rst",
            category="Evaluation",
            labels={"figure": "Probe against number of labels"},
        ),
        breakdown=report(
            f"{RESULTS}/evaluation/breakdown.png",
            caption="../report/breakdown.rst",
            category="Evaluation",
            labels={"figure": "Fraction found, by kind and surface brightness"},
        ),
        examples=report(
            f"{RESULTS}/evaluation/examples.png",
            caption="../report/examples.rst",
            category="Evaluation",
            labels={"figure": "Results of one example"},
        ),
        curves=f"{RESULTS}/evaluation/curves.csv",
        breakdown_table=f"{RESULTS}/evaluation/breakdown.csv",
        examples_table=f"{RESULTS}/evaluation/examples.csv",
    log:
        f"{RESULTS}/logs/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=120,
    params:
        version=VERSIONS["evaluate"],
        settings=uses("evaluation", "search.debris_weight"),
    script:
        "../scripts/evaluate.py"
