"""Messages to other programs through a real SAMP hub."""

import io
import threading

import httpx
import pytest
from astropy.io.votable import parse_single_table

from servers.explorer import served
from tidalkin.explorer.samp import POSITION, TABLE

samp = pytest.importorskip("pyvo.samp")


@pytest.fixture
def lock_file(tmp_path, monkeypatch):
    """Keep hubs of these tests apart from those of the person."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SAMP_HUB", raising=False)
    with samp.conf.set_temp("use_internet", False):
        yield


@pytest.fixture
def hub(lock_file):
    hub = samp.SAMPHubServer(web_profile=False, addr="127.0.0.1")
    hub.start()
    yield hub
    hub.stop()


class Viewer:
    """A program that listens at the hub, as TOPCAT does."""

    def __init__(self, hub, *messages):
        self.client = samp.SAMPIntegratedClient("TOPCAT", "a viewer of tables", addr="127.0.0.1")
        self.client.connect(hub)
        self.received = []
        self.has_received = threading.Event()
        for message in messages:
            self.client.bind_receive_notification(message, self.receive)

    def receive(self, private_key, sender_id, mtype, params, extra):
        self.received.append((mtype, params))
        self.has_received.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()


def test_a_list_is_sent_to_a_program_which_reads_it_from_its_address(hub, client):
    ask = {"start": "similar", "like": [1007, 1011], "k": 9}
    with Viewer(hub, TABLE) as viewer:
        answer = client.post("/api/samp/table", params=ask)
        assert (answer.status_code, answer.json()) == (200, {"receivers": ["TOPCAT"]})
        assert viewer.has_received.wait(30)
    [(_, params)] = viewer.received
    assert params["name"] == "small: similar"
    assert params["table-id"] == params["url"]
    table_file = httpx.get(params["url"]).raise_for_status()  # without the cookie of the page
    table = parse_single_table(io.BytesIO(table_file.content)).to_table()
    listed = client.get("/api/galaxies", params=ask).json()["galaxies"]
    assert table["object_id"].tolist() == [int(galaxy["id"]) for galaxy in listed]


def test_the_position_of_a_galaxy_is_sent_in_degrees(hub, client):
    with Viewer(hub, POSITION) as viewer:
        answer = client.post("/api/samp/position", params={"id": 1000})
        assert (answer.status_code, answer.json()) == (200, {"receivers": ["TOPCAT"]})
        assert viewer.has_received.wait(30)
    [(_, params)] = viewer.received
    assert (float(params["ra"]), float(params["dec"])) == (150.0, -2.0)


def test_without_a_hub_one_sentence_says_what_to_do(lock_file, client):
    answer = client.post("/api/samp/position", params={"id": 1000})
    assert answer.status_code == 400
    assert "no SAMP hub runs" in answer.json()["error"]


def test_a_hub_where_nobody_reads_tables_is_told_from_none(hub, client):
    with Viewer(hub, POSITION):
        answer = client.post("/api/samp/table", params={"k": 5})
    assert answer.status_code == 400
    assert f"no program at the SAMP hub understands {TABLE}" in answer.json()["error"]


def test_messages_are_sent_for_the_page_only(hub, explored_run):
    with served(explored_run) as client, Viewer(hub, POSITION) as viewer:
        foreign = client.post("/api/samp/position", params={"id": 1000}, headers={"Origin": "http://elsewhere"})
        client.cookies.clear()
        unknown = client.post("/api/samp/position", params={"id": 1000})
    assert (foreign.status_code, unknown.status_code) == (403, 401)
    assert viewer.received == []
