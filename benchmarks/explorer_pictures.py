"""Record the explorer of a run: ``python benchmarks/explorer_pictures.py results/demo docs/images``.

It needs Chromium, the package playwright, and a run whose catalog has labels. It writes ``explorer.webp``, an animated
picture of a search, some judgements, the ranking and the map, and ``explorer-<view>.png`` of each view. The galaxies
are judged by the labels of the catalog. The run's own judgements stay as they are, since a copy of links is explored.
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

import pandas as pd
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1200, 700
RECORDED_WIDTH = 900
CAPTION_HEIGHT = 36
FONT_SIZE = 17
POINTER = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]
GLIDE_STEPS, SECONDS_PER_STEP = 5, 0.08
"""Frames of a moving pointer."""
JUDGED = 5
"""Galaxies that are judged in the picture."""
UNSEEN = {"start=random&seed=1": 24, "round=1": 96}
"""Lists that are judged between the frames, and their lengths."""
KEYS = {"stream": "s", "shell": "h", "tail": "a"}
"""Keys of the demo's labels; all others are negative."""
LASSO = [(0.66, 0.40), (0.72, 0.28), (0.84, 0.26), (0.93, 0.36), (0.94, 0.54), (0.86, 0.66), (0.74, 0.62), (0.67, 0.52)]
"""Corners, as shares of the map's width and height."""
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


class Recorder:
    """A page, its pointer, and the frames so far."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frames: list[Image.Image] = []
        self.seconds: list[float] = []
        self._pointer = (WIDTH * 0.6, HEIGHT * 0.9)
        self._shot = Image.new("RGB", (WIDTH, HEIGHT))
        self._caption = ""
        self._font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), FONT_SIZE)

    def keep(self, seconds: float, caption: str | None = None) -> None:
        """Add what the page shows, below it a caption; by default the one before."""
        self._shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self._caption = self._caption if caption is None else caption
        self._add(seconds)

    def save_view(self, file: Path) -> None:
        """Write the frame last taken, without pointer and caption."""
        self._shot.save(file)

    def glide(self, x: float, y: float) -> None:
        """Move the pointer over the frame last taken."""
        start = self._pointer
        for step in range(1, GLIDE_STEPS + 1):
            share = step / GLIDE_STEPS
            self._pointer = (start[0] + share * (x - start[0]), start[1] + share * (y - start[1]))
            self._add(SECONDS_PER_STEP)
        self.page.mouse.move(x, y)

    def glide_to(self, selector: str) -> None:
        """Move the pointer to the middle of an element."""
        box = self.page.locator(selector).bounding_box()
        assert box is not None
        self.glide(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def drag(self, places: list[tuple[float, float]], caption: str) -> None:
        """Draw a line with the pointer, a frame for each corner."""
        self.glide(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
            self._pointer = place
            self.keep(2 * SECONDS_PER_STEP, caption)
        self.page.mouse.up()

    def wait_for_pictures(self) -> None:
        """Wait until the list and its thumbnails are drawn."""
        self.page.wait_for_selector(".list:not(.busy) .tile")
        self.page.wait_for_function("() => document.querySelector('.tile .picture').style.backgroundImage !== 'none'")
        self.page.wait_for_timeout(700)

    def _add(self, seconds: float) -> None:
        scale = RECORDED_WIDTH / WIDTH
        height = round(HEIGHT * scale)
        frame = Image.new("RGB", (RECORDED_WIDTH, height + CAPTION_HEIGHT), "#1d242b")
        frame.paste(self._shot.resize((RECORDED_WIDTH, height), Image.Resampling.LANCZOS))
        draw = ImageDraw.Draw(frame)
        x, y = (scale * place for place in self._pointer)
        draw.polygon([(x + right, y + down) for right, down in POINTER], fill="white", outline="black")
        middle = (RECORDED_WIDTH / 2, height + CAPTION_HEIGHT / 2)
        draw.text(middle, self._caption, fill="#ffb000", font=self._font, anchor="mm")
        self.frames.append(frame)
        self.seconds.append(seconds)


def search(recorder: Recorder, output: Path) -> None:
    """Start from the ranking, and go to the look-alikes of a galaxy."""
    page = recorder.page
    recorder.wait_for_pictures()
    recorder.keep(1.4, "Start from the galaxies with most debris: no example, no label")
    recorder.glide_to(".tile:nth-child(4)")
    page.wait_for_timeout(600)
    recorder.keep(0.5, "Click a galaxy …")
    page.click(".tile:nth-child(4)")
    page.wait_for_selector(".example.like")
    recorder.wait_for_pictures()
    recorder.keep(1.6, "… and see its look-alikes in the whole survey")
    page.keyboard.press("m")
    page.wait_for_timeout(1500)
    recorder.keep(1.6, "Key m: where the encoder sees faint light")
    recorder.save_view(output / "explorer-search.png")
    page.keyboard.press("m")


def judge(recorder: Recorder, address: str, output: Path, labels: dict[int, str]) -> int:
    """Judge galaxies by the labels of the catalog; return how many.

    The frames show the first ones. The others make probabilities and an audit possible: galaxies of a random list, and
    a long list of offers.
    """
    page = recorder.page
    page.goto(f"{address}/#judge?k={JUDGED}")
    recorder.wait_for_pictures()
    for number in range(JUDGED):
        key, label = _key_of_shown(page, labels)
        recorder.keep(0.9, f"Judge by keys: {key} for {label}")
        _press(page, key, number)
    recorder.save_view(output / "explorer-judge.png")
    for ask, n in UNSEEN.items():
        page.goto(f"{address}/#judge?{ask}&k={n}")
        page.wait_for_function(f"() => document.querySelector('.heading').textContent.includes('of {n} judged')")
        begun = int((page.text_content(".heading") or "0").split()[0])
        for number in range(begun, n):
            _press(page, _key_of_shown(page, labels)[0], number)
    return int((page.text_content(".heading em") or "0").split()[0])


def _key_of_shown(page: Page, labels: dict[int, str]) -> tuple[str, str]:
    """Return key and label of the galaxy to judge, once its image is shown."""
    page.wait_for_selector(".large span")
    identity = page.locator(".large").get_attribute("data-id")
    assert identity is not None
    label = labels[int(identity)]
    return (KEYS[label], label) if label in KEYS else ("n", "not")


def _press(page: Page, key: str, number: int) -> None:
    """Judge the galaxy that is shown, and wait until the label is on the disk."""
    page.keyboard.press(key)
    page.wait_for_function(f"() => document.querySelector('.heading').textContent.startsWith('{number + 1} of')")


def rank(recorder: Recorder, output: Path, n_judged: int) -> None:
    """See the ranking by the labels so far."""
    recorder.page.click("nav >> text=rank")
    recorder.wait_for_pictures()
    recorder.keep(2.2, f"After {n_judged} labels: the whole survey ranked anew, and how many are left to find")
    recorder.save_view(output / "explorer-rank.png")


def select_on_map(recorder: Recorder, output: Path) -> None:
    """Draw around galaxies of the map, and see them."""
    page = recorder.page
    page.click("nav >> text=map")
    page.wait_for_selector(".map canvas, .map img")
    page.wait_for_timeout(2000)
    recorder.keep(0.8, "The map: look-alikes are near each other")
    box = page.locator(".map").bounding_box()
    assert box is not None
    corners = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in LASSO]
    recorder.drag(corners, "Draw around some galaxies …")
    recorder.wait_for_pictures()
    recorder.keep(0.7)
    recorder.save_view(output / "explorer-map.png")
    page.evaluate("() => document.querySelector('.list .heading').scrollIntoView({block: 'center'})")
    page.wait_for_timeout(700)
    recorder.keep(2.0, "… to see them, judge them or export them")


def main() -> None:
    """Record a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed: install the package chromium")
    catalog = pd.read_parquet(arguments.run / "catalog.parquet", columns=["object_id", "label"])
    labels = dict(zip(catalog["object_id"].tolist(), catalog["label"].tolist(), strict=True))
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    with explorer(arguments.run) as link, sync_playwright() as driver:
        options = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(MILLISECONDS_TO_WAIT)
        recorder = Recorder(page)
        page.goto(link)
        search(recorder, output)
        n_judged = judge(recorder, link.split("/?")[0], output, labels)
        rank(recorder, output, n_judged)
        select_on_map(recorder, output)
        browser.close()
    first, *others = recorder.frames
    milliseconds = [round(1000 * seconds) for seconds in recorder.seconds]
    file = output / "explorer.webp"
    first.save(file, save_all=True, append_images=others, duration=milliseconds, loop=0, quality=80)
    print(
        f"{file}: {sum(recorder.seconds):.0f} s, {len(recorder.frames)} frames, {file.stat().st_size / 2**20:.1f} MiB"
    )


if __name__ == "__main__":
    main()
