"""The built page in the package is that of its source, and complete."""

import filecmp
import re
import shutil
import subprocess

import pytest

PAGE = "workflow/tidalkin/explorer/page"


def test_the_page_loads_nothing_from_other_servers(root):
    page = (root / PAGE / "index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["data:,", "./assets/page.js", "./assets/page.css"]
    for file in (root / PAGE / "assets").iterdir():
        addresses = set(re.findall(r"https?://[\w./-]+", file.read_text()))
        assert addresses <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1998/Math/MathML",
            "http://www.w3.org/1999/xhtml",
        }


def test_the_page_holds_no_code_that_the_policy_forbids(root):
    script = (root / PAGE / "assets" / "page.js").read_text()
    assert not re.search(r"\beval\(|new Function\(|\bFunction\(", script)
    sources = [file.read_text() for file in (root / "explorer" / "src").iterdir()]
    assert not any(re.search("dangerouslySetInnerHTML|innerHTML", source) for source in sources)


@pytest.mark.slow
def test_a_new_build_of_the_page_is_the_page_of_the_package(root, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    source = tmp_path / "explorer"
    shutil.copytree(root / "explorer", source, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent"], cwd=source, check=True, timeout=900)
    subprocess.run(["npm", "run", "build", "--silent"], cwd=source, check=True, timeout=300)
    built = tmp_path / "workflow" / "tidalkin" / "explorer" / "page"
    for file in ("index.html", "assets/page.js", "assets/page.css"):
        assert filecmp.cmp(built / file, root / PAGE / file, shallow=False), f"{file} differs: run make page"
