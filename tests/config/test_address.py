"""Addresses are checked when the configuration is read, without showing a password."""

from __future__ import annotations

import pytest

from tidalkin.config import load_settings
from tidalkin.errors import TidalkinError

KEYS = ("cutouts.hsc_das.url", "cutouts.hsc_patches.url", "cutouts.hips2fits.url", "catalog.server.url")


def read(key: str, url: object) -> str:
    """Read a configuration with one address, and return the address."""
    section, part, name = key.split(".")
    return getattr(getattr(getattr(load_settings({section: {part: {name: url}}}), section), part), name)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://me:hunter2@example.org/x", "must not hold a user name or a password"),
        ("https://me:hunt/er2@example.org/x", "must not hold a user name or a password"),
        ("https://me:hunter2 @[::1/x", "must not hold a user name or a password"),
        ("https://example.org:hunter2/x", "is not a web address"),
        ("https://exa mple.org/hunter2", "is not a web address"),
        ("https://[::1/hunter2", "is not a web address"),
        ("https://example.org:99999/hunter2", "is not a web address"),
        ("https://example.org/x?password=hunter2", "without ? and #"),
        ("http://example.org/hunter2", "must start with https://"),
        ("ftp://127.0.0.1/hunter2", "must start with https://"),
        ("", "is not a web address"),
        (["https://me:hunter2@example.org/x"], "must be an address"),
        (None, "must be an address"),
    ],
)
def test_an_address_that_is_unsafe_or_unreadable_is_refused_without_quoting_it(
    key: str, url: object, sentence: str
) -> None:
    with pytest.raises(TidalkinError, match=f"config: {key}: .*") as caught:
        read(key, url)
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("section", [{"hsc_das": "https://me:hunter2@example.org"}, "https://me:hunter2@example.org"])
def test_an_address_in_the_place_of_a_section_does_not_show_its_password(section: object) -> None:
    with pytest.raises(TidalkinError) as caught:
        load_settings({"cutouts": section})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", KEYS)
def test_a_safe_address_is_read_without_its_final_slash(key: str) -> None:
    assert read(key, "https://example.org/data/") == "https://example.org/data"
    assert read(key, "http://127.0.0.1:8080/x") == "http://127.0.0.1:8080/x"
    assert read(key, "http://[::1]:8080/x") == "http://[::1]:8080/x"
