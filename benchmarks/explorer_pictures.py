"""Record the explorer of a run: ``python benchmarks/explorer_pictures.py results/demo docs/images``.

It needs Chromium and the package playwright. It writes ``explorer.webp``, an animated picture of a search, some
judgements, the ranking and the map, and ``explorer-<view>.png`` of each. The labels of the run are left as they are,
since it explores a copy of links.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1200, 720
RECORDED_WIDTH = 800
SECONDS_PER_FRAME = 1.2
JUDGED = 12
MILLISECONDS_TO_WAIT = 60_000


@contextmanager
def explorer(run: Path) -> Iterator[str]:
    """Serve a run whose files are links to the given one, and yield the address."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "results" / run.name
        copy.mkdir(parents=True)
        for file in run.resolve().iterdir():
            if file.name != "labels":
                (copy / file.name).symlink_to(file)
        command = [sys.executable, "-c", "from tidalkin.cli import main; main()", "explore", str(copy)]
        with subprocess.Popen([*command, "--no-browser", "--who", "you"], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            link = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            try:
                yield link
            finally:
                server.terminate()


def settled(page: Page) -> None:
    """Wait until the thumbnails are drawn."""
    page.wait_for_selector(".list:not(.busy) .tile")
    page.wait_for_function("() => document.querySelector('.tile .picture').style.backgroundImage !== 'none'")
    page.wait_for_timeout(700)


def record(page: Page, link: str, output: Path) -> list[bytes]:
    """Go through the views, and return the frames."""
    frames = []

    def keep(name: str = "") -> None:
        frames.append(page.screenshot())
        if name:
            (output / f"explorer-{name}.png").write_bytes(frames[-1])

    page.goto(link)
    settled(page)
    keep()
    page.hover(".tile:nth-child(4)")
    page.wait_for_timeout(600)
    keep()
    page.click(".tile:nth-child(4)")
    page.wait_for_selector(".example.like")
    settled(page)
    keep()
    page.keyboard.press("m")
    page.wait_for_timeout(1500)
    keep("search")
    page.goto(f"{link.split('/?')[0]}/#judge?k=20")
    settled(page)
    keep()
    for number in range(JUDGED):
        page.keyboard.press("tttn"[number % 4])
        page.wait_for_function(f"() => document.querySelector('.heading').textContent.startsWith('{number + 1} of')")
        if number in (1, 4, 8):
            page.wait_for_timeout(400)
            keep("judge" if number == 8 else "")
    page.click("nav >> text=rank")
    settled(page)
    keep("rank")
    if page.locator("nav >> text=map").count():
        page.click("nav >> text=map")
        page.wait_for_timeout(2000)
        box = page.locator(".map").bounding_box()
        assert box is not None
        corners = [(0.75, 0.35), (0.9, 0.35), (0.92, 0.55), (0.78, 0.6)]
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for x, y in places[1:]:
            page.mouse.move(x, y, steps=5)
        keep()
        page.mouse.up()
        settled(page)
        keep("map")
    return frames


def main() -> None:
    """Record a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed: install the package chromium")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with explorer(arguments.run) as link, sync_playwright() as driver:
        options = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(MILLISECONDS_TO_WAIT)
        frames = record(page, link, arguments.output)
        browser.close()
    size = (RECORDED_WIDTH, RECORDED_WIDTH * HEIGHT // WIDTH)
    pictures = [Image.open(io.BytesIO(frame)).convert("RGB").resize(size, Image.Resampling.LANCZOS) for frame in frames]
    pictures[0].save(
        arguments.output / "explorer.webp",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * SECONDS_PER_FRAME),
        loop=0,
        quality=70,
    )


if __name__ == "__main__":
    main()
