"""Measure how well the debris score finds injected features in real HSC images.

    python benchmarks/real_sky.py scenes --out work --config config/config.yaml

``scenes`` holds ``catalog.csv`` (object_id, ra, dec, width, height) and ``cutouts/<object_id>-HSC-<BAND>.fits``. The
images go through the product's own conversion, training and embedding. Analytic features, which training never sees,
are injected where the scenes have pixels. The table has the ROC area of the debris score between scenes with and
without a feature, by surface brightness, trained on all scenes, and on every second scene and asked about the others.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
import yaml
from sklearn.metrics import roc_auc_score

from tidalkin.catalog.read import read_catalog, write_catalog
from tidalkin.config import BANDS, Cutouts, Dask, Folder, Images, Settings, load_settings
from tidalkin.embedding.features import encode
from tidalkin.evaluation.injections import Feature, feature_light, host_radius_arcsec
from tidalkin.images.convert import convert
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.checkpoint import LoadedEncoder, load_encoder
from tidalkin.model.train import train
from tidalkin.search.ranking import brightest_mean
from tidalkin.seeds import generator
from tidalkin.simulation.analytic import KINDS
from tidalkin.sources.fetch import fetch_chunk

EDGES = (23.5, 24.5, 25.5, 26.2, 26.8, 27.5)
"""Bins of surface brightness in i, mag/arcsec²."""
LEAST_ON_PIXELS = 0.6  # of a feature's light, where the scene has pixels in every band
TRIES = 20
BAD_MASK_BITS = (0, 1, 8)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Debris scores of scenes in one bin of surface brightness."""

    without: Floats
    """(scene,): before the injection."""
    with_feature: Floats
    """(injection,)"""
    scene: npt.NDArray[np.int64]
    """(injection,): the scene of each injection."""

    @property
    def area(self) -> float:
        """Area under the ROC curve."""
        truth = np.r_[np.zeros(self.without.size), np.ones(self.with_feature.size)]
        return float(roc_auc_score(truth, np.r_[self.without, self.with_feature]))

    @property
    def higher(self) -> float:
        """Share of injections that raise the score of their own scene."""
        return float((self.with_feature > self.without[self.scene]).mean())


def convert_scenes(scenes: Path, out: Path, count: int, size: int) -> ImageStore:
    """Convert the scenes with most pixels to an image store."""
    catalog = read_catalog(scenes / "catalog.csv")
    largest = (catalog["width"] * catalog["height"]).sort_values(ascending=False, kind="stable").index[:count]
    catalog = catalog.loc[largest].sort_values("object_id").reset_index(drop=True)
    out.mkdir(parents=True, exist_ok=True)
    files = {name: out / name for name in ("catalog.parquet", "0.tar", "0.ledger.parquet", "images.zarr")}
    write_catalog(catalog, files["catalog.parquet"])
    cutouts = Cutouts(source="folder", folder=Folder(path=str(scenes / "cutouts")))
    fetch_chunk(catalog, cutouts, 1, files["0.tar"], files["0.ledger.parquet"])
    convert(
        catalog=files["catalog.parquet"],
        tars=[files["0.tar"]],
        ledgers=[files["0.ledger.parquet"]],
        bands=BANDS,
        images=Images(size=size, shard_size=count, chunk_size=1, bad_mask_bits=BAD_MASK_BITS),
        dask=Dask(workers=1),
        threads=1,
        output=files["images.zarr"],
        problems=out / "problems.csv",
    )
    return ImageStore.open(files["images.zarr"])


def repeated_store(content: Shard, path: Path, rows: int) -> None:
    """Write a store of ``rows`` images, for one epoch, that repeats the scenes."""
    chosen = np.resize(np.arange(len(content.flux)), rows)
    size = content.flux.shape[-1]
    images = Images(size=size, shard_size=rows, chunk_size=1)
    store = ImageStore.create(path, objects=rows, bands=BANDS, images=images)
    repeated = content.rows(chosen)
    store.write(0, Shard(**{**vars(repeated), "object_id": np.arange(rows)}))


def trained_on(content: Shard, out: Path, settings: Settings, rows: int) -> LoadedEncoder:
    """Train an encoder on scenes, with the sections of the configuration."""
    repeated_store(content, out / "images.zarr", rows)
    training = settings.training.model_copy(update={"minimum_good_fraction": 0.0})
    train(
        out / "images.zarr",
        out / "encoder",
        stretch=settings.stretch,
        augment=settings.augment,
        encoder=settings.encoder,
        training=training,
        injection=settings.injection,
        seed=settings.seed,
        compute=settings.compute,
    )
    return load_encoder(out / "encoder" / "encoder.pt")


def injected(content: Shard, scene: int, brightness: float, random: np.random.Generator) -> Floats | None:
    """Inject a feature into one scene.

    The result is None if no try puts enough of its light where the scene has pixels.
    """
    flux, band = content.flux[scene], BANDS.index("i")
    covered = ~np.isnan(flux).any(axis=0)
    radius = host_radius_arcsec(flux[band], float(content.sky_sigma[scene, band]))
    for _ in range(TRIES):
        color, seed = float(random.normal(1.0, 0.15)), int(random.integers(2**63))
        feature = Feature(str(random.choice(KINDS)), brightness, color, seed)
        light = feature_light(feature, BANDS, content.psf_fwhm[scene], radius, flux.shape[-1])
        if light[band][covered].sum() > LEAST_ON_PIXELS * light[band].sum():
            return flux + light
    return None


def scores(loaded: LoadedEncoder, content: Shard, settings: Settings, draws: int) -> list[Scores]:
    """Score scenes without a feature and with features, for each bin of surface brightness."""

    def score(flux: Floats) -> Floats:
        debris_map = encode(loaded, flux, settings.embedding, settings.compute).debris_map
        assert debris_map is not None  # training had injected light
        return brightest_mean(debris_map)

    without, found = score(content.flux), []
    for low, high in itertools.pairwise(EDGES):
        random = generator(settings.seed, "real sky", str(low))
        images, scene = [], []
        for number in range(len(content.flux)):
            for _ in range(draws):
                image = injected(content, number, float(random.uniform(low, high)), random)
                if image is not None:
                    images.append(image)
                    scene.append(number)
        found.append(Scores(without, score(np.stack(images)), np.array(scene)))
    return found


def table(rows: dict[str, list[Scores]]) -> pd.DataFrame:
    """Make a table of ROC areas and of the share of raised scores."""
    names = [f"{low}–{high}" for low, high in itertools.pairwise(EDGES)]
    lines = {}
    for name, found in rows.items():
        lines[f"{name}: ROC area"] = [one.area for one in found]
        lines[f"{name}: higher than without"] = [one.higher for one in found]
    return pd.DataFrame(lines, index=names).T.round(2)


def folds(content: Shard) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Name the scenes to train on and those to ask about."""
    every = np.arange(len(content.flux))
    return {"all scenes": (every, every), "every second scene, asked about the others": (every[::2], every[1::2])}


def read_settings(config: Path, changes: Sequence[tuple[str, str, object]]) -> Settings:
    """Read a configuration, with some keys changed."""
    values = yaml.safe_load(config.read_text())
    for section, key, value in changes:
        if value is not None:
            values.setdefault(section, {})[key] = value
    return load_settings(values)


def main(
    scenes: Annotated[Path, typer.Argument(help="Folder with catalog.csv and cutouts/.")],
    out: Annotated[Path, typer.Option(help="Folder for stores and encoders; kept.")] = Path("real_sky"),
    config: Annotated[Path, typer.Option(help="Configuration whose sections train and embed.")] = Path(
        "config/config.yaml"
    ),
    count: Annotated[int, typer.Option(min=4, help="Scenes, those with most pixels.")] = 32,
    size: Annotated[int | None, typer.Option(help="Side of the images, pixels; that of the configuration.")] = None,
    rows: Annotated[int, typer.Option(min=8, help="Images of an epoch: the scenes are repeated.")] = 2048,
    epochs: Annotated[int | None, typer.Option(help="Epochs; those of the configuration.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step; that of the configuration.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the network; that of the configuration.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Features for each scene and bin.")] = 8,
    precision: Annotated[str, typer.Option(help="Precision of the network.")] = "float32",
) -> None:
    """Measure how well the debris score finds features in real scenes."""
    settings = read_settings(
        config,
        [
            ("training", "epochs", epochs),
            ("training", "batch_size", batch_size),
            ("encoder", "width", width),
            ("compute", "precision", precision),
            ("embedding", "minimum_good_fraction", 0.0),
        ],
    )
    store = convert_scenes(scenes, out, count, size or settings.images.size)
    content = store.read(0)
    found: dict[str, list[Scores]] = {}
    for number, (name, (train_on, ask)) in enumerate(folds(content).items()):
        began = time.monotonic()
        loaded = trained_on(content.rows(train_on), out / f"fold_{number}", settings, rows)
        found[name] = scores(loaded, content.rows(ask), settings, draws)
        print(f"{name}: {len(train_on)} scenes, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{count} scenes, {settings.training.epochs} epochs of {rows} images, surface brightness in i, mag/arcsec²")
    print(table(found).to_string())


if __name__ == "__main__":
    typer.run(main)
