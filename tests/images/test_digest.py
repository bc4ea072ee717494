"""The digest that stands for all images."""

from __future__ import annotations

from tidalkin.images.digest import write_digest


def test_the_digest_changes_exactly_when_the_list_of_shards_changes(tmp_path):
    shards, digest = tmp_path / "images.json", tmp_path / "images.digest"
    found = []
    for content in ('{"shards": ["a", "b"]}', '{"shards": ["a", "c"]}', '{"shards": ["a", "b"]}'):
        shards.write_text(content)
        write_digest(shards, digest)
        found.append(digest.read_text())
    first, other, again = found
    assert first == again != other
