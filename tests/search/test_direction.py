"""The direction of examples and counter-examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import published
from surveys.small_run import N, find, unit, write_run
from tidalkin.embedding.whitening import fit_whitening
from tidalkin.errors import TidalkinError
from tidalkin.search.direction import direction


def test_the_direction_of_one_example_is_its_vector():
    example = unit(np.array([[3.0, 4.0, 0.0]]))
    np.testing.assert_allclose(direction(example, example[:0]), example[0], atol=1e-6)


def test_with_a_debris_weight_of_0_the_score_of_the_example_does_not_count():
    example = unit(np.array([[3.0, 4.0, 12.0]]))
    np.testing.assert_allclose(direction(example, example[:0], 0.0), [0.6, 0.8, 0.0], atol=1e-6)


def test_the_debris_score_counts_whatever_the_score_of_the_example():
    faint, bright = (unit(np.array([[3.0, 4.0, score]])) for score in (-1.0, 5.0))
    towards = direction(faint, faint[:0], 1.0)
    np.testing.assert_allclose(direction(bright, bright[:0], 1.0), towards, atol=1e-6)
    assert towards[-1] > 0


def test_more_examples_count_more_beside_the_debris_score():
    examples = unit(np.tile([3.0, 4.0, 1.0], (20, 1)))
    one, all_of_them = (direction(examples[:n], examples[:0], 1.0) for n in (1, 20))
    assert one[-1] > all_of_them[-1] > 0


def test_a_whitening_of_other_dimensions_is_refused(tmp_path):
    files = write_run(tmp_path)
    features = np.random.default_rng(2).standard_normal((N, 12)).astype(np.float32)
    fit_whitening(features, published.embedding(dimensions=5), "").save(files.whitening)
    with pytest.raises(TidalkinError, match=r"whitening.npz: makes vectors of 5 dimensions, but the index has 8"):
        find(files, like=[1001])


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_a_direction_has_length_one_and_ranks_examples_above_counter_examples(seed, n_like, n_unlike):
    random = np.random.default_rng(seed)
    like, unlike = (unit(random.standard_normal((n, 32))) for n in (n_like, n_unlike))
    towards = direction(like, unlike)
    assert np.linalg.norm(towards) == pytest.approx(1, abs=1e-5)
    assert (like @ towards).mean() > (unlike @ towards).mean()


def latent_galaxies(seed, n=4000, dimensions=64):
    """Draw whitened vectors with two traits.

    Every tenth galaxy is shifted along one axis, a third of all along another.
    """
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((n, dimensions))
    is_tidal, has_bar = random.random(n) < 0.1, random.random(n) < 0.3
    vectors[:, 0] += 1.8 * is_tidal
    vectors[:, 1] += 2.5 * has_bar
    vectors -= vectors.mean(axis=0)
    return unit(vectors / vectors.std(axis=0)), is_tidal, has_bar


def test_several_examples_find_more_than_one_and_judged_results_help():
    single, several, judged = [], [], []
    for seed in range(5):
        vectors, is_tidal, has_bar = latent_galaxies(seed)
        examples = np.flatnonzero(is_tidal & has_bar)[:20]  # they happen to share a trait that does not matter
        first_answer = np.argsort(-vectors @ direction(vectors[examples], vectors[:0]))
        wrong = first_answer[~is_tidal[first_answer]][:20]
        rest = np.setdiff1d(np.arange(len(vectors)), [*examples, *wrong])
        for precisions, like, unlike in (
            (single, examples[:1], wrong[:0]),
            (several, examples, wrong[:0]),
            (judged, examples, wrong),
        ):
            similarity = vectors[rest] @ direction(vectors[like], vectors[unlike])
            precisions.append(average_precision_score(is_tidal[rest], similarity))
    assert np.mean(several) > 1.5 * np.mean(single)
    assert np.mean(judged) > np.mean(several)
