"""Changes of files that a user names are noticed."""

import os

from tidalkin.digest import content_digest


def test_another_content_or_name_is_another_digest_whatever_its_time(tmp_path):
    file = tmp_path / "encoder.pt"
    file.write_bytes(b"one")
    first = content_digest([file])
    os.utime(file, (1e9, 1e9))
    assert content_digest([str(file)]) == first
    file.write_bytes(b"two")
    second = content_digest([file])
    file.write_bytes(b"one")
    assert content_digest([file.rename(tmp_path / "other.pt")]) not in (first, second)
    assert len({first, second, content_digest([file]), content_digest([])}) == 4
