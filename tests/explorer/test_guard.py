"""Only the person who has the link reaches the server."""

import httpx
import pytest

from servers.explorer import TOKEN
from tidalkin.explorer.guard import Guard


@pytest.fixture
def stranger(client):
    with httpx.Client(base_url=client.base_url) as stranger:
        yield stranger


@pytest.mark.parametrize("path", ["/", "/api/meta", "/api/marks", "/assets/x.js", "/docs", "/openapi.json"])
@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong"])
def test_a_missing_or_wrong_token_is_refused(stranger, path, query):
    assert stranger.get(path + query).status_code == 401


def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address(stranger):
    answer = stranger.get("/", params={"token": TOKEN, "tab": "judge"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?tab=judge")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert stranger.get("/api/meta").status_code == 200


@pytest.mark.parametrize("odd", ['prefs={"theme":"dark"}', "a[0]=1", "foo", "x=a b", "x=ü", "=", '"', "a=1; ; b"])
@pytest.mark.parametrize("order", ["{odd}; {ours}", "{ours}; {odd}"])
def test_cookies_of_other_servers_on_localhost_lock_nobody_out(client, stranger, odd, order):
    (ours,) = client.cookies.jar
    header = order.format(odd=odd, ours=f"{ours.name}={ours.value}")
    assert stranger.get("/api/meta", headers={"Cookie": header.encode()}).status_code == 200
    assert stranger.get("/api/meta", headers={"Cookie": odd.encode()}).status_code == 401


def test_other_programs_give_the_token_with_the_address(stranger):
    answer = stranger.get("/api/export.vot", params={"token": TOKEN, "k": 3})
    assert answer.status_code == 200
    assert answer.content.startswith(b"<?xml")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:80", ""])
def test_another_host_is_refused(client, host):
    assert client.get("/api/meta", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "http://[", "http://]", ""])
def test_another_origin_is_refused(client, origin):
    answer = client.post("/api/undo", params={"uuid": "12345678"}, headers={"Origin": origin})
    assert answer.status_code == 403


def test_the_own_origin_is_accepted_behind_a_tunnel(client):
    headers = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert client.get("/api/meta", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["Node01:8123", "node01:8123", "NODE01"])
def test_a_host_is_known_in_any_case(host):
    guard = Guard(None, TOKEN, {"Node01"})
    headers = [(b"host", host.encode()), (b"origin", f"http://{host.lower()}".encode())]
    scope = {"headers": headers, "path": "/api/meta", "query_string": f"token={TOKEN}".encode()}
    assert guard._refusal(scope) is None


def test_every_answer_forbids_foreign_content(client):
    policy = client.get("/api/meta").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path", ["/../../catalog.parquet", "/%2e%2e/%2e%2e/server.py", "/..%2f..%2fserver.py", "//etc/passwd"]
)
def test_no_file_outside_the_page_is_served(client, path):
    assert client.get(path).status_code in (400, 404)


def test_a_redirect_stays_on_this_host(stranger):
    answer = stranger.get("//evil.example/", params={"token": TOKEN})
    assert answer.headers.get("location", "/").startswith("/")
    assert not answer.headers.get("location", "/").startswith("//")
