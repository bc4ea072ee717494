"""Marks rank the survey, and the ranking chooses what to judge next."""

import uuid
from collections import Counter

import numpy as np
import pytest

from servers.explorer import served
from surveys.small_run import write_run
from tidalkin.errors import TidalkinError
from tidalkin.explorer.labels import Verdict
from tidalkin.explorer.rank import NEAR_DUPLICATE, Ranker, offers
from tidalkin.explorer.survey import Survey


@pytest.fixture(scope="module")
def scored_run(tmp_path_factory):
    """A run of random vectors, whose last dimension is the debris score."""
    run = tmp_path_factory.mktemp("scored") / "results" / "small"
    run.mkdir(parents=True)
    write_run(run)
    return run


@pytest.fixture(scope="module")
def survey(scored_run):
    return Survey(scored_run)


def judged(positives=(), negatives=(), disputed=()):
    marks = [(object_id, True) for object_id in positives] + [(object_id, False) for object_id in negatives]
    marks += [(object_id, None) for object_id in disputed]
    return [Verdict(object_id, "", is_positive, is_positive is None, ()) for object_id, is_positive in marks]


def test_without_marks_the_ranking_is_that_of_the_debris_score(survey):
    ranking = Ranker(survey).rank([])
    last = survey.vectors_of(ranking.rows())[:, -1]
    assert (np.diff(last / np.sqrt(1 - last**2)) <= 1e-5).all()
    assert ranking.probability() is None


def test_five_marks_of_each_kind_give_probabilities(survey):
    positives, negatives = range(1000, 1005), range(1005, 1010)
    ranking = Ranker(survey).rank(judged(positives, negatives))
    probability = dict(zip(survey.ids[ranking.rows()].tolist(), ranking.probability(), strict=True))
    mean = [np.mean([probability[one] for one in kind]) for kind in (positives, negatives)]
    assert mean[0] > mean[1]
    assert (np.diff(ranking.probability()) <= 0).all()


def test_what_people_dispute_teaches_nothing(survey):
    ranker = Ranker(survey)
    alone = ranker.rank(judged(range(1000, 1005), range(1005, 1010)))
    assert ranker.rank(judged(range(1000, 1005), range(1005, 1010), [1020])) is alone


def test_offers_are_likely_uncertain_and_random_and_never_judged_before(survey):
    ranking = Ranker(survey).rank(judged(range(1000, 1005), range(1005, 1020)))
    before = survey.rows_of(np.arange(1000, 1020))
    chosen = offers(ranking, before, survey, 20, seed=1)
    assert Counter(offer.strategy for offer in chosen) == {"likely": 17, "uncertain": 1, "random": 2}
    rows = [offer.row for offer in chosen]
    assert len(set(rows)) == 20
    assert not set(rows) & set(before.tolist())
    assert all(ranking.rows()[offer.rank - 1] == offer.row for offer in chosen)
    assert chosen == offers(ranking, before, survey, 20, seed=1)


@pytest.mark.parametrize(
    ("positives", "negatives", "strategies"),
    [
        (4, 6, {"likely": 20}),
        (5, 5, {"likely": 19, "uncertain": 1}),
        (20, 0, {"likely": 18, "random": 2}),
        (0, 20, {"likely": 18, "random": 2}),
    ],
)
def test_the_audit_begins_at_twenty_marks_however_good_the_ranking(survey, positives, negatives, strategies):
    ids = np.arange(1000, 1000 + positives + negatives)
    ranking = Ranker(survey).rank(judged(ids[:positives].tolist(), ids[positives:].tolist()))
    chosen = offers(ranking, survey.rows_of(ids), survey, 20, seed=1)
    assert Counter(offer.strategy for offer in chosen) == strategies


def test_likely_offers_are_not_near_duplicates(survey):
    ranking = Ranker(survey).rank([])
    likely = [
        offer.row for offer in offers(ranking, np.zeros(0, np.int64), survey, 20, 1) if offer.strategy == "likely"
    ]
    vectors = survey.vectors_of(np.array(likely))
    likeness = vectors @ vectors.T - 2 * np.eye(len(likely))
    assert likeness.max() < NEAR_DUPLICATE


def test_few_galaxies_give_few_offers(survey):
    ranking = Ranker(survey).rank([])
    all_but_two = ranking.rows()[2:]
    assert len(offers(ranking, all_but_two, survey, 20, 1)) == 2
    assert offers(ranking, ranking.rows(), survey, 20, 1) == []


def test_a_judged_galaxy_without_a_vector_takes_no_other_out_of_the_offers(survey):
    ranking = Ranker(survey).rank([])
    without_vector = survey.rows_of([1059])
    assert survey.vector_rows[without_vector] == -1
    assert {offer.row for offer in offers(ranking, without_vector, survey, 100, 1)} == set(ranking.rows().tolist())


def test_all_that_is_left_is_offered_once(survey):
    ranking = Ranker(survey).rank(judged(range(1000, 1005), range(1005, 1010)))
    left = ranking.rows()[:3]
    assert {offer.row for offer in offers(ranking, ranking.rows()[3:], survey, 20, 1)} == set(left.tolist())
    assert offers(ranking, ranking.rows(), survey, 20, 1) == []


@pytest.fixture
def judging(scored_run):
    with served(scored_run) as client:
        yield client


def test_the_server_offers_ranks_and_offers_again(judging):
    for _ in range(3):
        offered = judging.get("/api/offers", params={"k": 12}).json()["galaxies"]
        assert len(offered) == 12
        for place, galaxy in enumerate(offered):
            mark = {name: galaxy[name] for name in ("strategy", "rank", "probability")}
            mark |= {"uuid": str(uuid.uuid4()), "object_id": galaxy["id"], "label": ("tidal", "not")[place % 2]}
            assert judging.post("/api/marks", json=[mark]).status_code == 200
    progress = judging.get("/api/progress").json()
    assert (progress["judged"], progress["positives"], progress["audited"]) == (36, 18, 1)
    assert progress["completeness"]["low"] <= progress["completeness"]["value"] <= progress["completeness"]["high"]
    ranked = judging.get("/api/galaxies", params={"start": "rank", "k": 60}).json()["galaxies"]
    probability = [galaxy["probability"] for galaxy in ranked]
    assert probability == sorted(probability, reverse=True)


def test_without_a_debris_score_a_positive_mark_is_asked_for(survey, monkeypatch):
    ranker = Ranker(survey)
    monkeypatch.setattr(ranker, "_has_debris_score", False)
    with pytest.raises(TidalkinError, match="judge one first"):
        ranker.rank([])
