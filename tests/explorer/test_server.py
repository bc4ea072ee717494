"""The API of the explorer, over HTTP on localhost."""

import io
import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from astropy.io.votable import parse_single_table
from astropy.table import Table
from PIL import Image

from servers.explorer import explorer_process, lose_images, one_file, served
from surveys.small_run import SIZE, find
from tidalkin import open_run
from tidalkin.catalog.read import read_catalog
from tidalkin.errors import TidalkinError
from tidalkin.explorer.labels import LabelBook, new_mark
from tidalkin.explorer.serve import _listen
from tidalkin.explorer.survey import Survey
from tidalkin.search.files import RunFiles


def get(client, path, **params):
    answer = client.get(f"/api/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def ids_of(client, **ask):
    return [int(galaxy["id"]) for galaxy in get(client, "galaxies", **ask).json()["galaxies"]]


def judge(client, object_id, label, **details):
    mark = {"uuid": str(uuid.uuid4()), "object_id": str(object_id), "label": label, **details}
    answer = client.post("/api/marks", json=[mark])
    assert answer.status_code == 200, answer.text
    return mark["uuid"]


def test_the_run_is_described(client):
    meta = get(client, "meta").json()
    assert (meta["run"], meta["galaxies"], meta["bands"], meta["who"]) == ("small", 60, ["g", "r", "i"], "ada")
    assert meta["labels"] == ["tidal", "not", "unsure", "stream", "shell", "tail"]


def test_the_ranking_is_in_the_order_of_the_debris_score_and_comes_in_pages(client):
    first = get(client, "galaxies", k=20).json()
    scores = [galaxy["score"] for galaxy in first["galaxies"]]
    assert scores == sorted(scores, reverse=True)
    assert ids_of(client, k=20)[10:] == ids_of(client, k=10, offset=10)


def test_a_search_gives_what_the_command_line_gives(client, explored_run):
    found = find(RunFiles.of(explored_run), like=[1007, 1011], unlike=[1003], k=9, debris_weight=2.0)
    answer = get(client, "galaxies", start="similar", like=[1007, 1011], unlike=[1003], k=9, debris_weight=2).json()
    assert [int(galaxy["id"]) for galaxy in answer["galaxies"]] == found.neighbours["object_id"].to_pylist()
    similarity = [galaxy["similarity"] for galaxy in answer["galaxies"]]
    np.testing.assert_allclose(similarity, found.neighbours["similarity"].to_pylist(), atol=1e-5)


def test_a_random_list_depends_on_its_seed_only(client):
    assert ids_of(client, start="random", seed=5) == ids_of(client, start="random", seed=5)
    assert ids_of(client, start="random", seed=5) != ids_of(client, start="random", seed=6)


def test_the_most_unusual_galaxies_are_a_list_of_all(client):
    assert len(set(ids_of(client, start="unusual", k=100))) == len(ids_of(client, start="random", k=100))


@pytest.mark.parametrize(
    ("text", "expected"), [("1007", 1007), ("150.0, -2.0", 1000), ("10:00:00 -02:00:00", 1000), ("10h4m0s +2d", 1059)]
)
def test_a_galaxy_is_found_by_id_and_by_position(client, text, expected):
    assert int(get(client, "locate", text=text).json()["id"]) == expected


def test_the_galaxy_nearest_to_a_far_position_may_have_another_declination(client):
    assert int(get(client, "locate", text="170 0").json()["id"]) == 1059


def test_a_position_comes_with_the_distance(client):
    assert get(client, "locate", text="150 -2.001").json()["distance_arcsec"] == pytest.approx(3.6)


@pytest.mark.parametrize(
    ("path", "params", "sentence"),
    [
        ("galaxies", {"start": "similar", "like": 77}, "object 77 is not in"),
        ("galaxies", {"start": "similar"}, "needs an example"),
        ("galaxies", {"start": "similar", "like": 1007, "unlike": 1007}, "both an example and a counter-example"),
        ("galaxies", {"start": "similar", "upload": "gone"}, "upload it again"),
        ("galaxies", {"k": 0}, "k: Input should be greater"),
        ("galaxies", {"like": "seven"}, "valid integer"),
        ("galaxies", {"start": "similar", "like": 2**70}, "less than"),
        ("locate", {"text": "somewhere"}, "neither an object_id nor a position"),
        ("sheet.jpg", {"id": 1007, "bands": "u"}, "band 'u' is not among"),
        ("export.xls", {}, "format 'xls' is unknown"),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_by_a_sentence(client, path, params, sentence):
    answer = client.get(f"/api/{path}", params=params)
    assert answer.status_code in (400, 422)
    assert sentence in answer.json()["error"]


def test_a_sheet_holds_one_picture_per_galaxy_and_is_kept_by_the_browser(client):
    answer = get(client, "sheet.jpg", id=list(range(1000, 1010)))
    assert Image.open(io.BytesIO(answer.content)).size == (8 * SIZE, 2 * SIZE)
    again = client.get(answer.request.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_lost_image_is_a_cross_on_the_sheet_and_hides_no_other(client, run_to_judge):
    lose_images(run_to_judge)
    with served(run_to_judge) as damaged:
        answer = get(damaged, "sheet.jpg", id=[1007, 1040])
        assert answer.headers["cache-control"] == "no-store"
        assert "is lost or damaged" in damaged.get("/api/image.png", params={"id": 1040}).json()["error"]
    drawn, whole = (
        np.asarray(Image.open(io.BytesIO(content)))
        for content in (answer.content, get(client, "sheet.jpg", id=[1007, 1040]).content)
    )
    np.testing.assert_array_equal(drawn[:, :SIZE], whole[:, :SIZE])
    lost = drawn[:, SIZE : 2 * SIZE]
    assert lost[5, 5].max() > 40 > lost[1, 8].max()


def test_stretch_and_bands_change_a_picture(client):
    usual = get(client, "image.png", id=1007).content
    assert get(client, "image.png", id=1007, stretch=3).content != usual
    assert get(client, "image.png", id=1007, bands="g").content != usual


@pytest.mark.parametrize(("name", "rule"), [("ranking", "rank"), ("catalog", "catalog")])
def test_a_damaged_table_of_the_run_is_one_sentence(run_to_judge, name, rule):
    (run_to_judge / f"{name}.parquet").write_bytes(b"no Parquet")
    with pytest.raises(TidalkinError, match=rf"{name}\.parquet: cannot be read .* `snakemake --forcerun {rule}`"):
        Survey(run_to_judge)


def test_maps_of_a_shard_that_a_smaller_catalog_left_behind_are_not_shown(client, run_to_judge):
    embeddings = run_to_judge / "embeddings"
    shard = min(embeddings.glob("*.debris_map.npy"))
    np.save(embeddings / "00099.debris_map.npy", np.full_like(np.load(shard), 20.0))
    np.save(embeddings / "00099.ids.npy", np.load(shard.with_name(shard.name.replace("debris_map", "ids"))))
    with served(run_to_judge) as left_behind:
        shown = get(left_behind, "maps.png", id=[1000, 1059]).content
    assert shown == get(client, "maps.png", id=[1000, 1059]).content


def test_a_map_is_transparent_where_the_encoder_sees_nothing(client):
    maps = np.asarray(Image.open(io.BytesIO(get(client, "maps.png", id=[1000, 1059]).content)))
    assert maps.shape == (2 * SIZE, 16 * SIZE, 4)
    assert (maps[..., 3] == 0).any()
    assert (maps[:, : 2 * SIZE, 3] > 0).any()
    assert not maps[:, 4 * SIZE :, 3].any()


def test_a_galaxy_is_described_with_its_columns_and_links(client):
    (galaxy,) = get(client, "galaxy", id=1007).json()
    assert galaxy["columns"]["remark"] == "<script>document.title = 'broken in'</script>"
    assert f"{galaxy['ra']:.7g}" in galaxy["links"]["Legacy Survey Viewer"]


@pytest.mark.parametrize("kind", ["csv", "fits", "vot", "reg"])
def test_a_list_is_exported_in_every_format(client, kind):
    content = get(client, f"export.{kind}", start="similar", like=1007, k=5).content
    ids = ids_of(client, start="similar", like=1007, k=5)
    if kind == "reg":
        assert [line.split("{")[1].rstrip("}") for line in content.decode().splitlines()[3:]] == [str(i) for i in ids]
        return
    if kind == "vot":
        table = parse_single_table(io.BytesIO(content)).to_table()
    else:
        table = Table.read(io.BytesIO(content), format={"csv": "ascii.csv", "fits": "fits"}[kind])
    assert table["object_id"].tolist() == ids
    assert {"rank", "ra", "dec", "similarity", "debris_score", "label"} <= set(table.colnames)


def test_the_export_of_judged_galaxies_is_longer_than_the_page(judging):
    for object_id in (1007, 1011, 1015):
        judge(judging, object_id, "tidal")
    judge(judging, 1020, "not")
    assert len(ids_of(judging, start="labels", k=2)) == 2
    answer = get(judging, "export.csv", start="labels", label="tidal", k=2)
    content = answer.content
    assert answer.headers["content-disposition"].endswith("-labels.csv")
    assert pd.read_csv(io.BytesIO(content))["object_id"].tolist() == [1007, 1011, 1015]


def test_an_uploaded_galaxy_finds_itself(client, explored_run, tmp_path):
    content = one_file(explored_run, tmp_path, 1007)
    digest = client.post("/api/upload", content=content).json()["upload"]
    found = get(client, "galaxies", start="similar", upload=digest, k=3, debris_weight=1).json()["galaxies"]
    assert found[0]["id"] == "1007"
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert get(client, "upload.png", upload=digest).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("content", [b"", b"no FITS file", b"SIMPLE  =                    T" + b" " * 5000])
def test_a_broken_upload_is_refused_in_a_sentence(client, content):
    answer = client.post("/api/upload", content=content)
    assert answer.status_code == 400
    assert "upload" in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]


def test_a_mark_is_stored_with_how_the_galaxy_was_offered(judging, run_to_judge):
    judge(judging, 1007, "shell", strategy="random", rank=3, probability=0.25, milliseconds=900)
    (file,) = (run_to_judge / "labels").glob("*.jsonl")
    line = json.loads(file.read_text())
    assert (line["object_id"], line["label"], line["who"], line["run"]) == (1007, "shell", "ada", "small")
    assert (line["strategy"], line["rank"], line["probability"], line["milliseconds"]) == ("random", 3, 0.25, 900)
    assert line["encoder"]


def test_marks_are_shown_counted_and_undone(judging):
    judge(judging, 1007, "shell")
    judge(judging, 1008, "not", who="bob")
    judge(judging, 1008, "tidal")
    (galaxy,) = get(judging, "galaxy", id=1008).json()
    assert galaxy["marks"] == {"bob": "not", "ada": "tidal"}
    assert get(judging, "progress").json()["counts"] == {"shell": 1, "disagreement": 1}
    assert ids_of(judging, start="labels", label="disagreement") == [1008]
    undone = judging.post("/api/undo", params={"uuid": str(uuid.uuid4())}).json()["undone"]
    assert undone == {"id": "1008", "label": "tidal"}
    assert get(judging, "progress").json()["counts"] == {"shell": 1, "not": 1}


def test_an_unknown_label_or_object_is_refused(judging):
    for object_id, label, sentence in ((1007, "odd", "label 'odd' is not one of"), (77, "not", "object 77 is not in")):
        answer = judging.post("/api/marks", json=[{"uuid": "12345678", "object_id": object_id, "label": label}])
        assert sentence in answer.json()["error"]
    assert get(judging, "progress").json()["counts"] == {}


def test_a_mark_that_another_process_just_wrote_counts_in_the_next_offers(judging, run_to_judge):
    assert "judge one first" in judging.get("/api/offers", params={"k": 12}).json()["error"]
    LabelBook(run_to_judge / "labels").append(new_mark(1000, "tidal", "bob"))
    assert len(judging.get("/api/offers", params={"k": 12}).json()["galaxies"]) == 12


def test_random_offers_estimate_what_is_left(judging):
    for object_id, label in ((1000, "tidal"), (1001, "not"), (1002, "not"), (1003, "not")):
        judge(judging, object_id, label, strategy="random", probability=0.3)
    progress = get(judging, "progress").json()
    assert progress["prevalence"]["value"] == 0.25
    assert progress["completeness"]["value"] == pytest.approx(1 / (1 + 0.25 * 56))
    assert progress["completeness"]["low"] < progress["completeness"]["value"] < progress["completeness"]["high"]
    assert progress["calibration"] == [[pytest.approx(0.3), 0.25, 4]]


def test_the_version_changes_with_the_marks_of_every_process(judging, run_to_judge):
    assert get(judging, "version").json()["version"] == 0
    judge(judging, 1007, "not")
    LabelBook(run_to_judge / "labels").append(new_mark(1000, "tidal", "bob"))
    assert get(judging, "version").json()["version"] == 2


def test_no_confirmed_mark_is_lost_when_the_server_is_killed(run_to_judge):
    import httpx

    with explorer_process(run_to_judge) as (process, link):
        token = link.split("token=")[1]
        base = link.split("/?")[0]
        for object_id in range(1000, 1020):
            mark = {"uuid": str(uuid.uuid4()), "object_id": object_id, "label": "not"}
            assert httpx.post(f"{base}/api/marks", params={"token": token}, json=[mark], timeout=60).status_code == 200
        process.kill()
        process.wait()
    with explorer_process(run_to_judge) as (_, link):
        token, base = link.split("token=")[1], link.split("/?")[0]
        progress = httpx.get(f"{base}/api/progress", params={"token": token}, timeout=60).json()
    assert progress["counts"] == {"not": 20}


def test_the_labels_are_a_catalog_of_the_pipeline(judging, run_to_judge):
    judge(judging, 1007, "shell")
    judge(judging, 1008, "not")
    judge(judging, 1009, "unsure")
    file = run_to_judge / "labels" / "labels.csv"
    until(lambda: file.exists() and len(pd.read_csv(file)) == 3)
    catalog = read_catalog(file).set_index("object_id")
    assert catalog["label"].dropna().to_dict() == {1007: "shell", 1008: "none"}
    assert catalog.loc[1007, "ra"] == pytest.approx(150 + 7 / 59)
    judging.post("/api/undo", params={"uuid": str(uuid.uuid4())})
    until(lambda: len(pd.read_csv(file)) == 2)


def test_a_table_of_labels_that_is_lost_is_made_again_at_the_start(run_to_judge):
    LabelBook(run_to_judge / "labels").append(new_mark(1007, "shell", "bob"))
    with served(run_to_judge):
        table = pd.read_csv(run_to_judge / "labels" / "labels.csv")
    assert (table["object_id"].tolist(), table["who"].tolist()) == ([1007], ["bob"])


def test_a_bad_mark_among_good_ones_writes_none(judging):
    marks = [{"uuid": str(uuid.uuid4()), "object_id": one, "label": label} for one, label in ((1, "x"), (1007, "not"))]
    assert judging.post("/api/marks", json=marks[::-1]).status_code == 400
    assert get(judging, "progress").json()["counts"] == {}


@pytest.fixture
def run_with_lost_objects(run_to_judge):
    """A run to judge, where people labelled two objects that have left the catalog."""
    book = LabelBook(run_to_judge / "labels")
    book.extend([new_mark(one, label, "ada") for one, label in ((1007, "shell"), (1008, "not"), (77, "tidal"))])
    book.append(new_mark(78, "not", "bob"))
    return run_to_judge


def test_labels_of_objects_that_left_the_catalog_are_kept_and_not_used(run_with_lost_objects, caplog):
    with served(run_with_lost_objects) as client:
        (warning,) = caplog.messages
        assert "2 of 4 labelled objects, such as 77, are not in" in warning
        assert get(client, "progress").json()["counts"] == {"not": 1, "shell": 1}
        assert ids_of(client, start="labels") == [1007, 1008]
        assert 1007 in ids_of(client, start="rank", k=60)
        assert len(get(client, "offers", k=5).json()["galaxies"]) == 5
        assert get(client, "export.csv", start="labels").status_code == 200
        table = read_catalog(run_with_lost_objects / "labels" / "labels.csv")
        assert table["object_id"].tolist() == [1007, 1008]
        assert client.post("/api/undo", params={"uuid": str(uuid.uuid4())}).json()["undone"]["id"] == "1008"
    assert sorted(open_run(run_with_lost_objects).label_book().current()) == [77, 78, 1007]


def test_requests_at_the_same_time_undo_different_marks(judging):
    for object_id in range(1000, 1012):
        judge(judging, object_id, "not")
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: judging.post("/api/undo", params={"uuid": str(uuid.uuid4())}).json(), range(12))
        )
    assert sorted(answer["undone"]["id"] for answer in answers) == [str(one) for one in range(1000, 1012)]
    assert get(judging, "progress").json()["counts"] == {}


def test_an_undo_sent_twice_undoes_one_mark(judging):
    for object_id in (1000, 1001):
        judge(judging, object_id, "not")
    answers = [judging.post("/api/undo", params={"uuid": "sent twice"}).json()["undone"]["id"] for _ in range(2)]
    assert answers == ["1001", "1001"]
    assert get(judging, "progress").json()["counts"] == {"not": 1}


def test_an_undo_with_a_bad_uuid_is_refused_in_a_sentence(judging):
    judge(judging, 1000, "not")
    answer = judging.post("/api/undo", params={"uuid": "short"})
    assert answer.status_code == 422
    assert "uuid" in answer.json()["error"]


def test_a_label_that_is_no_longer_configured_keeps_its_name(judging, run_to_judge):
    book = LabelBook(run_to_judge / "labels")
    book.extend([new_mark(1000, "ring", "bob"), new_mark(1001, "ring", "bob"), new_mark(1002, "ring", "bob")])
    judge(judging, 1001, "unsure")
    judge(judging, 1002, "shell")
    progress = get(judging, "progress").json()
    assert (progress["counts"], progress["positives"]) == ({"ring": 2, "shell": 1}, 1)
    assert ids_of(judging, start="labels", label="ring") == [1000, 1001]
    assert ids_of(judging, start="labels", label="disagreement") == []
    exported = pd.read_csv(io.BytesIO(get(judging, "export.csv", start="labels").content))
    assert exported["judged"].tolist() == ["ring", "ring", "shell"]


def test_a_bad_line_of_another_program_stops_no_mark_and_is_named_without_a_traceback(judging, run_to_judge, caplog):
    judge(judging, 1000, "not")
    (run_to_judge / "labels" / "other.jsonl").write_text('{"object_id": 1000, "when": 7}\n')
    judge(judging, 1001, "tidal")
    for path in ("/api/progress", "/api/version"):
        answer = judging.get(path)
        assert answer.status_code == 400
        assert "other.jsonl: the line at byte 0 is not a mark" in answer.json()["error"]
    (run_to_judge / "labels" / "other.jsonl").unlink()
    assert get(judging, "progress").json()["counts"] == {"tidal": 1, "not": 1}
    assert "Exception" not in caplog.text


def test_a_name_that_no_file_can_hold_is_refused_in_a_sentence(judging):
    mark = {"uuid": str(uuid.uuid4()), "object_id": "1000", "label": "not", "who": "\ud800"}
    answer = judging.post("/api/marks", content=json.dumps([mark]), headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "who" in answer.json()["error"]


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_small_packets_are_sent_at_once():
    with _listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
