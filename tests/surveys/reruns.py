"""The rules that run again after a change of each key, for tests and documentation.

    PYTHONPATH=tests python -m surveys.reruns > docs/reference/reruns.md

A test compares the page with this file, and this file with what Snakemake plans for a finished run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tidalkin.config import Section, Settings

STAGES = (
    *("catalog", "chunks", "fetch", "convert", "images_digest", "views", "train", "reuse_encoder", "whiten"),
    *("reuse_whitening", "embed", "index", "rank", "map", "search"),
    *("baseline_random", "baseline_pca", "baseline_morphology", "evaluate", "completeness"),
)
"""Rules of the workflow, in the order of the data."""

BASELINES = {"baseline_random", "baseline_pca", "baseline_morphology"}
AFTER_CATALOG = {"rank", "search", "evaluate"} | BASELINES
EMBED = {"embed", "index", "rank", "map", "search", "evaluate", "completeness"}
WHITEN = {"whiten"} | EMBED
TRAIN = {"train"} | WHITEN
PAINT = BASELINES | TRAIN
VIEWS = {"views", "baseline_random"} | TRAIN
CONVERT = {"convert", "images_digest", "views"} | BASELINES | TRAIN
FETCH = {"chunks", "fetch"} | CONVERT
CATALOG = {"catalog"} | FETCH

OTHER_SOURCE = "a key of a source that is not in use"


@dataclass(frozen=True)
class Change:
    """A change of one key, and the stages that it runs again."""

    value: Any
    stages: set[str]
    beside: dict[str, Any] | None = None
    """Keys that must change with it."""
    note: str = ""
    """A remark for the page."""
    alone: set[str] | None = None
    """The stages for the page, where the keys in ``beside`` run more than the key itself."""


def unused(value: Any, **beside: Any) -> Change:
    """Describe a key of a source that the survey of the test does not use."""
    return Change(value, set(), beside or None, OTHER_SOURCE)


CHANGES: dict[str, Change] = {
    "run": Change("elsewhere", CATALOG, note="a new run, in a folder of its own"),
    "seed": Change(2, CATALOG),
    "catalog.source": Change("file", CATALOG, {"catalog.path": "catalog.csv", "cutouts.source": "folder"}),
    "catalog.path": Change("other.csv", set(), note="the content of the file decides, see below"),
    "catalog.query": Change("query.sql", set(), note="the content of the file decides, see below"),
    "catalog.rerun": Change("pdr2", {"catalog"} | AFTER_CATALOG, note="with `hsc_sql`, the query and all that follows"),
    "catalog.columns": Change({"object_id": "id"}, {"catalog"} | AFTER_CATALOG),
    "catalog.label_from": Change(
        {"none": "dec < 90"},
        CATALOG,
        {"catalog.source": "file", "catalog.path": "catalog.csv", "cutouts.source": "folder"},
        alone={"catalog"} | AFTER_CATALOG,
    ),
    "catalog.chunk_size": Change(18, CATALOG),
    "catalog.server.url": Change("https://example.org/api", set()),
    "catalog.server.maximum_rows": Change(10, set()),
    "catalog.server.skip_syntax_check": Change(True, set()),
    "catalog.server.attempts": Change(3, set()),
    "catalog.server.backoff_seconds": Change(3.0, set()),
    "catalog.server.backoff_maximum_seconds": Change(60.0, set()),
    "catalog.server.timeout_seconds": Change(30.0, set()),
    "catalog.server.minimum_bytes_per_second": Change(10.0, set()),
    "catalog.server.poll_seconds": Change(10.0, set()),
    "catalog.server.wait_seconds": Change(100.0, set()),
    "cutouts.source": Change("folder", CATALOG, {"catalog.path": "catalog.csv", "catalog.source": "file"}),
    "cutouts.bands": Change(["g", "r"], FETCH),
    "cutouts.size_arcsec": Change(9.0, FETCH, note="not with `folder` and `mmu_hsc`, whose files have a size"),
    "cutouts.simulated.galaxies": Change(80, CATALOG),
    "cutouts.simulated.tidal_fraction": Change(0.9, CATALOG),
    "cutouts.simulated.tidal_surface_brightness": Change([25.0, 27.0], CATALOG),
    "cutouts.simulated.magnitude": Change([18.0, 20.0], CATALOG),
    "cutouts.simulated.half_light_radius_arcsec": Change([1.0, 2.0], CATALOG),
    "cutouts.simulated.neighbours_per_arcmin2": Change(10.0, CATALOG),
    "cutouts.simulated.stars_per_arcmin2": Change(1.0, CATALOG),
    "cutouts.simulated.correlated_noise": Change(True, CATALOG),
    "cutouts.simulated.over_subtraction": Change(0.5, CATALOG),
    "cutouts.folder.path": unused("."),
    "cutouts.folder.template": unused("{object_id}.fits"),
    "cutouts.folder.hdu_template": unused("{band}"),
    "cutouts.hsc_das.url": unused("https://example.org/das"),
    "cutouts.hsc_das.rerun": unused("pdr2_wide"),
    "cutouts.hsc_das.image_type": unused("coadd"),
    "cutouts.hsc_das.mask": unused(False),
    "cutouts.hsc_das.variance": unused(False),
    "cutouts.hsc_patches.url": unused("https://example.org/patches"),
    "cutouts.hsc_patches.rerun": unused("pdr2_wide"),
    "cutouts.hsc_patches.image_type": unused("coadd"),
    "cutouts.hips2fits.url": unused("https://example.org/hips"),
    "cutouts.hips2fits.hips": unused("CDS/{BAND}"),
    "cutouts.hips2fits.zero_point": unused(27.0),
    "cutouts.mmu_hsc.path": unused("."),
    "cutouts.mmu_hsc.zero_point": unused(26.0),
    "cutouts.outside": unused({}),
    "images.size": Change(36, CONVERT),
    "images.shard_size": Change(16, CONVERT),
    "images.chunk_size": Change(8, CONVERT),
    "images.bad_mask_planes": Change(["SAT"], CONVERT),
    "images.bad_mask_bits": Change([3], CONVERT),
    "stretch.bin": Change(2, VIEWS | {"baseline_pca"}, {"encoder.stem": "small"}),
    "stretch.softening_sigma": Change(2.0, VIEWS | {"baseline_pca"}),
    "stretch.maximum": Change(4.0, VIEWS | {"baseline_pca"}),
    "stretch.asymmetry": Change(True, VIEWS | {"baseline_pca"}, {"augment.jitter_pixels": 0}),
    "augment.crop": Change(24, VIEWS),
    "augment.jitter_pixels": Change(1, VIEWS),
    "augment.rotate": Change(False, VIEWS),
    "augment.zoom": Change([0.9, 1.1], VIEWS),
    "augment.shear": Change(0.1, VIEWS),
    "augment.blur_arcsec": Change([0.0, 0.3], VIEWS),
    "augment.noise_sigma": Change([0.0, 0.5], VIEWS),
    "augment.extinction_ebv": Change([0.0, 0.1], VIEWS),
    "augment.brightness": Change(0.1, VIEWS),
    "augment.color": Change(0.1, VIEWS),
    "augment.discs": Change(1, VIEWS),
    "augment.disc_radius_arcsec": Change([0.4, 1.0], VIEWS),
    "augment.disc_distance_arcsec": Change(1.0, VIEWS),
    "encoder.architecture": Change("resnet50", TRAIN | {"baseline_random"}),
    "encoder.stages": Change(4, TRAIN | {"baseline_random"}),
    "encoder.width": Change(16, TRAIN | {"baseline_random"}),
    "encoder.stem": Change("small", TRAIN | {"baseline_random"}),
    "encoder.projector_size": Change(64, TRAIN | {"baseline_random"}),
    "encoder.predictor_size": Change(16, TRAIN | {"baseline_random"}),
    "training.epochs": Change(3, TRAIN),
    "training.batch_size": Change(12, TRAIN),
    "training.optimizer": Change("sgd", TRAIN),
    "training.base_learning_rate": Change(0.01, TRAIN),
    "training.warmup_epochs": Change(0.5, TRAIN),
    "training.momentum": Change(0.8, TRAIN),
    "training.weight_decay": Change(0.01, TRAIN),
    "training.minimum_good_fraction": Change(0.4, TRAIN),
    "training.shuffle_window": Change(64, TRAIN),
    "training.collapse_below": Change(0.01, TRAIN),
    "injection.fraction": Change(0.4, PAINT),
    "injection.surface_brightness": Change([24.0, 26.0], PAINT),
    "injection.color": Change(0.5, PAINT),
    "injection.color_scatter": Change(0.2, PAINT),
    "injection.clouds": Change(2.0, PAINT),
    "injection.filaments": Change(2.0, PAINT),
    "injection.edges": Change(2.0, PAINT),
    "injection.arcs": Change(2.0, PAINT),
    "injection.distance_arcsec": Change([1.0, 4.0], PAINT),
    "injection.extent_arcsec": Change([1.0, 3.0], PAINT),
    "injection.inner_radius_arcsec": Change([0.5, 2.0], PAINT),
    "injection.over_subtraction": Change(0.0, PAINT),
    "injection.outer_radius_arcsec": Change(8.0, PAINT),
    "injection.head_weight": Change(2.0, PAINT),
    "injection.map_weight": Change(2.0, PAINT),
    "injection.scale_with_size": Change(True, PAINT),
    "injection.stamps.folder": Change("stamps", PAINT, note="and with other files in the folder"),
    "injection.stamps.number": Change(2.0, PAINT),
    "injection.stamps.pixel_scale_arcsec": Change(0.2, PAINT),
    "injection.nuisances.companions": Change(0.1, PAINT),
    "injection.nuisances.stars": Change(0.1, PAINT),
    "injection.nuisances.gradients": Change(0.1, PAINT),
    "injection.nuisances.over_subtraction": Change(0.1, PAINT),
    "injection.nuisances.correlated_noise": Change(0.1, PAINT),
    "reuse.encoder": Change("encoder.pt", {"reuse_encoder"} | WHITEN),
    "reuse.whitening": Change(
        "whitening.npz", {"reuse_encoder", "reuse_whitening"} | EMBED, {"reuse.encoder": "encoder.pt"}
    ),
    "embedding.dimensions": Change(12, WHITEN | {"baseline_random", "baseline_pca"}),
    "embedding.symmetries": Change(4, WHITEN | {"baseline_random", "baseline_pca"}),
    "embedding.crop": Change(32, WHITEN | {"baseline_random", "baseline_pca"}),
    "embedding.whitening_sample": Change(48, WHITEN | {"baseline_random", "baseline_pca"}),
    "embedding.whitening_views": Change(2, WHITEN | {"baseline_random", "baseline_pca"}),
    "embedding.minimum_good_fraction": Change(0.4, WHITEN | BASELINES),
    "embedding.dtype": Change("float16", WHITEN | {"baseline_random", "baseline_pca"}),
    "index.kind": Change("HNSW32", {"index", "search"}),
    "index.queries": Change(10, {"index", "search"}),
    "index.shards_per_part": Change(8, set()),
    "search.k": Change(5, {"search"}),
    "search.radius_arcsec": Change(3.0, {"search"}),
    "search.debris_weight": Change(0.5, {"search", "evaluate"}),
    "search.queries": Change({"third": {"like": [5]}}, {"search"}, note="the new and the changed queries"),
    "evaluation.enabled": Change(False, set()),
    "evaluation.negative_label": Change("stream", BASELINES | {"evaluate"}),
    "evaluation.probe_labels": Change([4], {"evaluate"}),
    "evaluation.set_size": Change(3, {"evaluate"}),
    "evaluation.repeats": Change(3, {"evaluate"}),
    "evaluation.precision_at": Change(5, {"evaluate"}),
    "evaluation.prevalence": Change(0.1, {"evaluate"}),
    "evaluation.sample": Change(40, BASELINES | {"evaluate"}),
    "completeness.enabled": Change(False, set()),
    "completeness.galaxies": Change(10, {"completeness"}),
    "completeness.kinds": Change(["stream"], {"completeness"}),
    "completeness.surface_brightness": Change([24.0, 26.0], {"completeness"}),
    "completeness.color": Change(0.5, {"completeness"}),
    "completeness.color_scatter": Change(0.1, {"completeness"}),
    "explorer.positive": Change("feature", set()),
    "explorer.negative": Change("plain", set()),
    "explorer.unsure": Change("perhaps", set()),
    "explorer.kinds": Change(["stream"], set()),
    "explorer.projection": Change("umap", {"map"}),
    "compute.device": Change("cpu", set()),
    "compute.gpus": Change(1, set()),
    "compute.processes": Change(2, set()),
    "compute.precision": Change("float32", set()),
    "compute.compile": Change(True, set()),
    "compute.images_in": Change("stream", set()),
    "compute.embed_batch_size": Change(7, set()),
    "compute.dask.cluster": Change("slurm", set()),
    "compute.dask.workers": Change(1, set()),
    "compute.dask.address": Change("tcp://localhost:8786", set()),
    "compute.dask.slurm": Change({"queue": "main"}, set()),
}

TRANSPORT = {
    "attempts": 3,
    "backoff_seconds": 1.0,
    "backoff_maximum_seconds": 30.0,
    "bytes_per_second": 1e6,
    "cache": "patches",
    "cache_gigabytes": 1.0,
    "connections": 2,
    "lines_per_request": 10,
    "minimum_bytes_per_second": 10.0,
    "timeout_seconds": 10.0,
}
"""Values of the keys below ``cutouts.<source>.transport``, which never run anything again."""


def keys(section: type[Section] = Settings, prefix: str = "") -> Iterator[str]:
    """Name every key of the configuration, like ``training.epochs``."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def change_of(key: str) -> Change:
    """Return the change of a key; a new key needs one here."""
    return Change(TRANSPORT[key.rpartition(".")[2]], set()) if ".transport." in key else CHANGES[key]


def changed_by(config: dict, key: str) -> dict:
    """Return a configuration with one key changed, and those that must change with it."""
    new = {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}
    change = change_of(key)
    for path, value in {key: change.value, **(change.beside or {})}.items():
        *sections, name = path.split(".")
        section = new
        for part in sections:
            section[part] = dict(section.get(part, {}))
            section = section[part]
        is_added = isinstance(value, dict) and isinstance(section.get(name), dict)
        section[name] = section[name] | value if is_added else value
    return new


PAGE = """# Rules that run again

Made by `make reference`. Tests change each key of a finished run on a simulated survey, and compare the jobs that
Snakemake plans with this table. The table names the rules of the workflow; a rule that the run does not need is left
out.

## After a change of the configuration

| key | rules that run again |
| --- | --- |
{rows}

## After a change of the catalog

The content of the table decides. Its path and its time do not.

| change | rules that run again |
| --- | --- |
| the file is touched, moved, or written again with the same rows | nothing |
| a label or another column of your own is changed or added | `catalog`, `rank`, `search`, the baselines, `evaluate` |
| rows are appended | `catalog`, `chunks`, `fetch` (last and new chunks), `convert`, and all rules after it |
| rows are appended, with `reuse.encoder` and `reuse.whitening` | `catalog`, `chunks`, `fetch` (last and new chunks), \
`convert`, `embed` (last and new shards), `index`, `rank`, `map`, `search`, `completeness`, the baselines, `evaluate` |
| rows are removed, moved or reordered | as for appended rows, for the chunks whose rows changed |

A chunk that a run has fetched once is not fetched again: its name holds a digest of all that decides its cutouts.

## After a change of your own files

| change | rules that run again |
| --- | --- |
| an image file of the source `folder` or `mmu_hsc` gets another size or time, arrives or is removed | \
`fetch` (its chunk), and all rules after it |
| another content of the files in `reuse`, or of a query's `cutout` | \
`reuse_encoder`, `reuse_whitening` or `search`, and all rules after it |
| another content of a file in `injection.stamps.folder` | `train`, the baselines, and all rules after it |
"""


def page() -> str:
    """Return the page ``docs/reference/reruns.md``."""
    names: dict[tuple[str, str], list[str]] = {}
    for key in keys():
        change = change_of(key)
        shown = change.stages if change.alone is None else change.alone
        stages = ", ".join(f"`{stage}`" for stage in STAGES if stage in shown) or "nothing"
        if change.note == OTHER_SOURCE:
            stages = "with this source in use: " + ", ".join(f"`{stage}`" for stage in STAGES if stage in FETCH)
        names.setdefault((stages, "" if change.note == OTHER_SOURCE else change.note), []).append(f"`{key}`")
    rows = [
        f"| {', '.join(group)} | {stages}{f' ({note})' if note else ''} |" for (stages, note), group in names.items()
    ]
    return PAGE.format(rows="\n".join(rows))


if __name__ == "__main__":
    print(page(), end="")
