"""Tests of the configuration: defaults, faults and digests."""

from __future__ import annotations

from typing import ClassVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tidalkin.config import Augment, Cutouts, Images, Section, Settings, config_digest, load_settings
from tidalkin.errors import TidalkinError

SIMULATED = {"catalog": {"source": "simulated"}, "cutouts": {"source": "simulated"}}


def refusal(text):
    with pytest.raises(TidalkinError) as error:
        load_settings(yaml.safe_load(text))
    return str(error.value)


def test_no_configuration_is_the_default_one():
    assert load_settings({}) == Settings()
    assert load_settings(SIMULATED).images.size == 96


@pytest.mark.parametrize(
    ("text", "size", "view", "embedded"),
    [
        ("{}", 96, 96, None),
        ("cutouts: {size_arcsec: 21.504}", 128, 126, 126),
        ("{cutouts: {size_arcsec: 21.504}, images: {size: 96}}", 96, 96, None),
        ("images: {size: 101}", 101, 99, 99),
        ("{images: {size: 128}, stretch: {bin: 2}}", 128, 128, None),
        ("{images: {size: 128}, augment: {crop: 63}}", 128, 63, 126),
        ("stretch: {bin: 5}", 96, 95, 95),
        # numbers that YAML takes for text
        ("cutouts: {size_arcsec: 1.2e1}", 71, 69, 69),
        ("cutouts: {size_arcsec: '12'}", 71, 69, 69),
        ("images: {size: '64'}", 64, 63, 63),
        ("{images: {size: 128}, stretch: {bin: '2'}}", 128, 128, None),
    ],
)
def test_sizes_that_are_not_given_follow_those_that_are(text, size, view, embedded):
    settings = load_settings(yaml.safe_load(text))
    assert (settings.images.size, settings.augment.crop, settings.embedding.crop) == (size, view, embedded)


def test_sizes_follow_sections_made_in_python_too():
    assert Settings(images=Images(size=66)).augment.crop == 66
    assert Settings(cutouts=Cutouts(size_arcsec=21.504)).images.size == 128
    assert Settings(images=Images(size=66), augment=Augment(zoom=(0.9, 1.1))).augment == Augment(
        crop=66, zoom=(0.9, 1.1)
    )


@pytest.mark.parametrize("size", ["x", "1_28", "0128", "", "inf", [], True])
def test_a_size_that_is_no_number_is_the_only_fault_named(size):
    with pytest.raises(TidalkinError, match=r"^config: images\.size") as error:
        load_settings({"images": {"size": size}})
    assert len(str(error.value).splitlines()) == 1
    assert refusal("cutouts: {size_arcsec: 1.0e+308}").startswith("config: cutouts.size_arcsec is 1e+308: ")


def test_a_configuration_comes_back_from_its_own_dump():
    settings = load_settings({"run": "mine", "images": {"size": 96}, "search": {"queries": {"a": {"like": [42]}}}})
    assert load_settings(yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))) == settings
    assert Images(**settings.images.model_dump()) == settings.images


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "explorer: {kinds: [shell, disagreement]}",
            "config: explorer: 'disagreement' names galaxies with contrary labels: choose another label",
        ),
        # unknown keys, with the allowed ones
        ("runn: demo", "config: unknown key `runn`; allowed here: augment, catalog, completeness, compute, cutouts, "),
        (
            "images: {sise: 96}",
            "config: unknown key `images.sise`; allowed here: bad_mask_bits, bad_mask_planes, chunk",
        ),
        (
            "cutouts: {folder: {paht: x}}",
            "unknown key `cutouts.folder.paht`; allowed here: hdu_template, path, template",
        ),
        ("search: {queries: {a: {lik: [1], like: [1]}}}", "unknown key `search.queries.a.lik`; allowed here: cutout, "),
        # wrong types
        ("images: {size: large}", "config: images.size is 'large': input should be a valid integer"),
        ("images: {size: 96.5}", "config: images.size is 96.5: input should be a valid integer"),
        (
            "training: {base_learning_rate: [1]}",
            "config: training.base_learning_rate is [1]: input should be a valid num",
        ),
        ("augment: {rotate: 7}", "config: augment.rotate is 7: input should be a valid boolean"),
        ("augment: {zoom: 1.1}", "config: augment.zoom is 1.1: must be a list, like [a, b]"),
        ("images:", "config: images is None: must be a section, with keys and their values below it"),
        ("run: 7", "config: run is 7: must be text: write it in quotes"),
        # bounds
        ("images: {size: 2}", "config: images.size is 2: input should be greater than or equal to 8"),
        ("seed: -1", "config: seed is -1: input should be greater than or equal to 0"),
        ("stretch: {softening_sigma: 0}", "config: stretch.softening_sigma is 0: input should be greater than 0"),
        ("stretch: {softening_sigma: .nan}", "config: stretch.softening_sigma is nan: "),
        (
            "cutouts: {hsc_das: {transport: {connections: 99}}}",
            "cutouts.hsc_das.transport.connections is 99: input should be less than or equal",
        ),
        ("cutouts: {bands: []}", "config: cutouts.bands is []: tuple should have at least 1 item"),
        ("training: {epochs: true}", "config: training.epochs: must be a number, not true or false"),
        ("augment: {zoom: [true, 2]}", "config: augment.zoom: must be a number, not true or false"),
        # choices
        ("cutouts: {bands: [u]}", "config: cutouts.bands.0 is 'u': input should be 'g', 'r', 'i', 'z' or 'y'"),
        ("catalog: {source: sky}", "config: catalog.source is 'sky': input should be 'simulated', 'file' or 'hsc_sql'"),
        ("embedding: {symmetries: 3}", "config: embedding.symmetries is 3: input should be 1, 2, 4 or 8"),
        ("run: ../up", "config: run is '../up': must begin with a letter or a digit"),
        ("run: " + 300 * "a", "string should have at most 100 characters"),
        ("1: 2", "config: 1: a key must be text: write it in quotes"),
        ("training: {1: 2}", "config: training.1: a key must be text: write it in quotes"),
        ("search: {queries: {1: {like: [1]}}}", "config: search.queries.1: a key must be text: write it in quotes"),
        # contradictions
        ("catalog: {source: file}", "config: catalog: source `file` needs `path`: name your catalog file"),
        ("catalog: {source: hsc_sql}", "config: catalog: source `hsc_sql` needs `query`"),
        (
            "catalog: {source: file, path: a.csv, columns: {ra: dec, dec: dec}}",
            "config: catalog: columns names 'dec' for both ra and dec, but a column has one use: name another one for",
        ),
        ("cutouts: {source: folder}", "config: cutouts: source `folder` needs `folder.path`"),
        ("catalog: {source: file, path: a.csv}", "catalog.source 'file' and cutouts.source 'simulated' contradict"),
        ("cutouts: {bands: [g, r, g]}", "config: cutouts: bands ['g', 'r', 'g'] names a band twice"),
        ("cutouts: {size_arcsec: 1.0}", "config: cutouts: size_arcsec 1.0 is under 8 pixels of 0.168 arcsec"),
        ("images: {shard_size: 100}", "config: images: shard_size 100 must be a multiple of chunk_size 32"),
        ("augment: {crop: 200}", "config: augment.crop 200 must not exceed images.size 96"),
        ("embedding: {crop: 200}", "config: embedding.crop 200 must not exceed images.size 96"),
        ("augment: {zoom: [1.2, 0.8]}", "zoom must be [low, high] with low <= high, not [1.2, 0.8]"),
        (
            "training: {batch_size: 4096}",
            "training.batch_size 4096 must not exceed the 2000 galaxies of cutouts.simulated",
        ),
        ("encoder: {predictor_size: 512}", "predictor_size 512 must be smaller than projector_size 512"),
        # file name templates
        ("cutouts: {folder: {template: x.fits}}", "config: cutouts.folder: template 'x.fits' must contain {object_id}"),
        (
            "cutouts: {folder: {template: '{object_id}{tract}'}}",
            "template '{object_id}{tract}' has the unknown field {tract}: use object_id, ",
        ),
        ("cutouts: {folder: {hdu_template: '{band.x}'}}", "hdu_template '{band.x}' has the unknown field {band.x}"),
        ("cutouts: {folder: {template: '{object_id:g!}.fits'}}", "cannot be filled in"),
        ("cutouts: {folder: {template: '*/{object_id}.fits'}}", "wildcards in the file's name only"),
        ("cutouts: {folder: {template: '{object_id'}}", "template '{object_id' cannot be filled in"),
        ("cutouts: {folder: {template: '{object_id:c}'}}", "{object_id:c}' cannot be filled in: %c arg not in"),
        ("cutouts: {folder: {template: '{object_id:g}'}}", "43160169307177141 and 43160169307177142 the same file"),
        (
            "cutouts: {source: folder, bands: [g, r], folder: {path: x, template: '{object_id}.f', hdu_template: SCI}}",
            "cutouts: folder.hdu_template 'SCI' gives the bands g, r the same image: add {band} or {BAND} to",
        ),
        (
            "cutouts: {source: folder, bands: [g, r], folder: {path: x, template: '{object_id}{band:.0}.fits'}}",
            "cutouts: folder.template '{object_id}{band:.0}.fits' gives the bands g, r the same image: add {band} or",
        ),
        ("{augment: {crop: 96}, stretch: {bin: 5}}", "config: augment.crop 96 must be a multiple of stretch.bin 5"),
        (
            "{stretch: {bin: 8}, encoder: {stem: standard, stages: 4}}",
            "makes views of 12 pixels, of which one would reach the network's last stage: encoder",
        ),
        ("{augment: {crop: 9}, encoder: {stem: small}}", "encoder.stem 'small' needs at least 5"),
        (
            "augment: {jitter_pixels: 13}",
            "config: augment.jitter_pixels 13 must be 0 with stretch.asymmetry, which turns",
        ),
        ("embedding: {whitening_views: 1}", "config: embedding.whitening_views: one view cannot be compared"),
        ("reuse: {whitening: other.npz}", "config: reuse: `whitening` needs `encoder`: that of the run"),
        # questions
        ("search: {queries: {a: {unlike: [1]}}}", "config: search.queries.a: a query needs `like` (object_ids)"),
        ("search: {queries: {a: {like: [1], unlike: [1]}}}", "object 1 is both in `like` and in `unlike`"),
        ("search: {debris_weight: 1.0e+308}", "search.debris_weight is 1e+308: input should be less than or equal"),
        (
            "search: {queries: {a: {position: [400, 0]}}}",
            "position: [400.0, 0.0] must have a right ascension in 0..360",
        ),
        ("search: {queries: {a/b: {like: [1]}}}", "query name 'a/b' must be letters, digits, `_` and `-`"),
    ],
)
def test_a_fault_is_one_sentence_that_names_key_value_and_what_is_allowed(text, sentence):
    found = refusal(text)
    assert sentence in found
    assert found.startswith("config: ")
    assert "\n" not in found


@pytest.mark.parametrize(
    "cutouts",
    [
        {"source": "folder", "bands": ["g"], "folder": {"path": "x", "template": "{object_id}", "hdu_template": "SCI"}},
        {"source": "simulated", "folder": {"template": "{object_id}.fits", "hdu_template": "SCI"}},
    ],
)
def test_one_band_or_another_source_needs_no_band_in_the_templates(cutouts):
    assert Cutouts(**cutouts).folder.hdu_template == "SCI"


def test_a_number_that_yaml_takes_for_text_is_a_number():
    assert load_settings(yaml.safe_load("training: {base_learning_rate: 5e-2}")).training.base_learning_rate == 0.05


def test_every_fault_gets_its_own_line():
    found = refusal("{runn: demo, seed: -1, images: {size: 2}}")
    assert len(found.splitlines()) == 3
    assert all(line.startswith("config: ") for line in found.splitlines())


def test_settings_cannot_be_changed_after_they_were_checked():
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).images.size = 4


@given(epochs=st.integers(1, 1000))
def test_the_digest_tells_configurations_apart_and_no_more(epochs):
    one, other = (load_settings({"training": {"epochs": n}}).training for n in (epochs, epochs + 1))
    assert config_digest(one) != config_digest(other)
    assert config_digest(one) == config_digest(one.model_copy())
    assert config_digest(one, "x") != config_digest(one)


def test_a_key_that_a_release_adds_changes_nothing_until_it_changes_a_result():
    class Before(Section):
        size: int = 8

    class After(Before):
        AS_BEFORE: ClassVar = {"softness": 0.0}
        softness: float = 0.0

    class ChangedDefault(After):
        softness: float = 0.5

    assert After().content() == Before().content()
    assert config_digest(After()) == config_digest(Before())
    assert After(softness=1.0).content() == {"size": 8, "softness": 1.0}
    assert ChangedDefault().content() == {"size": 8, "softness": 0.5}
    assert config_digest(ChangedDefault()) != config_digest(Before())
