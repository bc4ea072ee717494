"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import os
import re
import shutil
import time

import pandas as pd
import pytest

from servers.explorer import explorer_process, lose_images, one_file
from tidalkin.explorer.labels import LabelBook, new_mark
from tidalkin.explorer.projection import write_map

pytestmark = pytest.mark.slow

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 60_000
"""Milliseconds that the page has for each step: a busy machine is not a fault."""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install Debian's package chromium, or name one in CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1300, "height": 850})
    context.set_default_timeout(SECONDS)
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if not is_local(request.url) else None)
    yield page
    context.close()
    assert not faults


def is_local(address):
    return re.match(r"(http://localhost:|data:|blob:)", address) is not None


@pytest.fixture
def link(run_to_judge):
    with explorer_process(run_to_judge) as (_, link):
        yield link


def tiles(page):
    page.wait_for_selector(".list:not(.busy) .tile")
    return page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.dataset.id)")


def find(page, text):
    page.fill("input[name=find]", text)
    page.press("input[name=find]", "Enter")
    page.wait_for_function("() => location.hash.includes('start=similar')")
    page.wait_for_selector(".example.like")


def judging_a_list(page, link, k=24):
    """Open the first galaxies of the ranking for judging."""
    page.goto(link)
    page.goto(f"{link.split('/?')[0]}/#judge?start=ranking&k={k}")
    judged(page, 0, k)


def judged(page, number, k=24):
    """Wait until some galaxies of the list are judged and the next image is shown."""
    counted(page, number, k)
    if number < k:
        page.wait_for_selector(".large span, .large .fault")


def counted(page, number, k=24):
    start = f"{number} of {k}"
    page.wait_for_function(f"() => document.querySelector('.heading')?.textContent?.startsWith('{start}')")


def marks_of(run):
    book = LabelBook(run / "labels")
    book.refresh()
    return book.all_marks()


def test_a_search_by_id_goes_on_by_clicks_and_back_and_its_address_shows_the_same(page, link):
    page.goto(link)
    assert "token" not in page.url
    assert len(tiles(page)) == 48
    find(page, "1007")
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.includes('most similar')")
    first = tiles(page)
    assert "1007" not in first
    page.click(f".tile[data-id='{first[0]}']", modifiers=["Shift"])
    page.wait_for_function("() => document.querySelectorAll('.example.like').length === 2")
    page.click(f".tile[data-id='{first[1]}']", modifiers=["Alt"])
    page.wait_for_selector(".example.unlike")
    page.wait_for_selector(f".tile[data-id='{first[1]}']", state="detached")
    shown = tiles(page)
    assert not {first[0], first[1]} & set(shown)
    second = page.context.new_page()
    second.goto(page.url)
    assert tiles(second) == shown
    page.go_back()
    page.wait_for_selector(".example.unlike", state="detached")
    page.click(f".tile[data-id='{first[2]}']")
    page.wait_for_function(f"() => location.hash.includes('like={first[2]}')")


def test_a_position_is_found_with_its_distance(page, link):
    page.goto(link)
    find(page, "10:00:00 -02:00:01")
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.includes('1.00 arcsec')")


def test_a_position_outside_the_survey_comes_with_a_distance_in_degrees(page, link):
    page.goto(link)
    find(page, "170 0")
    page.wait_for_function(
        "() => document.querySelector('.heading')?.textContent?.includes('19.1 degrees from the position')"
    )


def test_the_galaxy_under_the_pointer_stays_while_its_drawing_changes(page, link):
    page.goto(link)
    galaxy = tiles(page)[5]
    page.hover(f".tile[data-id='{galaxy}']")
    page.wait_for_selector(f".large[data-id='{galaxy}']")
    page.keyboard.press("m")
    page.wait_for_selector("button.on:text-is('Debris map')")
    page.wait_for_timeout(100)
    assert page.get_attribute(".large", "data-id") == galaxy


def test_the_first_list_is_judged_in_its_order(page, link):
    page.goto(link)
    listed = tiles(page)
    page.click("text=Judge this list")
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.startsWith('0 of 48')")
    assert tiles(page) == listed


def test_what_cannot_be_found_is_said_in_a_sentence(page, link):
    page.goto(link)
    page.fill("input[name=find]", "77")
    page.press("input[name=find]", "Enter")
    assert "object 77 is not in" in page.text_content(".banner")


def test_twenty_marks_survive_a_reload_and_a_killed_server(page, run_to_judge):
    with explorer_process(run_to_judge, "--port", "0") as (process, link):
        base = link.split("/?")[0]
        page.goto(link)
        page.goto(f"{base}/#judge?start=ranking&k=24")
        for number in range(20):
            judged(page, number)
            page.keyboard.press("tn"[number % 2])
            if number == 9:
                judged(page, 10)
                page.reload()
        judged(page, 20)
        process.kill()
        process.wait()
    port = base.rsplit(":", 1)[1]
    with explorer_process(run_to_judge, "--port", port) as (_, link):
        page.goto(link)
        page.goto(f"{base}/#judge?start=ranking&k=24")
        judged(page, 20)
    book = LabelBook(run_to_judge / "labels")
    book.refresh()
    assert len(book.all_marks()) == len(book.current()) == 20
    assert all(mark.milliseconds is not None for mark in book.all_marks())


def test_undo_takes_the_last_mark_back(page, link, run_to_judge):
    judging_a_list(page, link)
    page.keyboard.press("s")
    judged(page, 1)
    page.keyboard.press("z")
    judged(page, 0)
    book = LabelBook(run_to_judge / "labels")
    book.refresh()
    assert book.current() == {}


@pytest.mark.parametrize("key", ["n", "Enter"])
def test_a_key_that_is_held_labels_one_galaxy(page, link, run_to_judge, key):
    judging_a_list(page, link)
    if key == "Enter":
        page.focus(".answers button.no")
    for _ in range(12):  # after the first, Chromium tells the page that the key is held
        page.keyboard.down(key)
        page.wait_for_timeout(80)
    page.keyboard.up(key)
    judged(page, 1)
    assert len(marks_of(run_to_judge)) == 1


def test_a_label_is_taken_once_the_image_of_its_galaxy_is_on_the_screen(page, link, run_to_judge):
    held = []
    judging_a_list(page, link)
    first, second, third = tiles(page)[:3]
    shown = "id => document.querySelector(`.large[data-id='${id}'] span`)?.style.backgroundImage.includes(`id=${id}`)"
    page.wait_for_function(shown, arg=first)
    page.route(re.compile(f"api/image.png.*id={third}"), lambda route: held.append(route))
    page.keyboard.press("n")
    judged(page, 1)
    page.wait_for_function(shown, arg=second)
    page.keyboard.press("n")
    counted(page, 2)
    page.wait_for_selector(f".large[data-id='{third}'] >> text=loading")
    assert page.query_selector(".large span") is None  # not the image of the galaxy before
    page.keyboard.press("t")
    page.click(".answers button.yes >> nth=0")
    page.wait_for_timeout(1000)
    sent = time.monotonic()
    for route in held:
        route.continue_()
    page.wait_for_function(shown, arg=third)
    page.keyboard.press("t")
    judged(page, 3)
    marks = marks_of(run_to_judge)
    assert [(str(mark.object_id), mark.label) for mark in marks] == [(first, "not"), (second, "not"), (third, "tidal")]
    assert marks[-1].milliseconds <= 1000 * (time.monotonic() - sent)  # since the image is there


def test_a_galaxy_without_an_image_can_be_judged(page, run_to_judge):
    lose_images(run_to_judge)
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        page.goto(f"{link.split('/?')[0]}/#judge?start=ranking&k=48&at=1040")
        page.wait_for_selector(".large[data-id='1040'] >> text=is lost or damaged")
        page.keyboard.press("u")
        judged(page, 1, 48)


def test_undo_takes_back_the_mark_that_is_on_its_way(page, link, run_to_judge):
    held = []
    judging_a_list(page, link)
    first, second = tiles(page)[:2]
    page.keyboard.press("t")
    judged(page, 1)
    page.route("**/api/marks", lambda route: held.append(route))
    page.keyboard.press("n")
    page.wait_for_timeout(200)
    page.keyboard.press("z")
    page.wait_for_timeout(500)
    (route,) = held
    with page.expect_response(re.compile("api/undo")):
        route.continue_()
    page.wait_for_selector(f".large[data-id='{second}']")
    judged(page, 1)
    book = LabelBook(run_to_judge / "labels")
    book.refresh()
    assert [str(one) for one in book.current()] == [first]
    assert len(book.all_marks()) == 3


def test_after_the_last_galaxy_no_galaxy_is_shown(page, link):
    judging_a_list(page, link, k=1)
    page.keyboard.press("n")
    page.wait_for_selector("text=All 1 are judged")
    page.wait_for_selector(".facts", state="detached")


@pytest.mark.parametrize("width", [400, 800])
def test_a_narrow_window_shows_all_controls_and_many_long_labels(page, run_to_judge, width):
    write_map([run_to_judge / "embeddings" / "00000.npy"], run_to_judge / "map.parquet", "pca", seed=1)
    book = LabelBook(run_to_judge / "labels")
    labels = ["tail", "a rather long label that another program wrote", "not", "shell", "unsure", "stream", "tidal"]
    for number, label in enumerate(labels):
        book.append(new_mark(1000 + number, label, "bob"))
    book.append(new_mark(1000, "not", "a colleague with a rather long name"))
    page.set_viewport_size({"width": width, "height": 700})
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        tiles(page)
        page.wait_for_selector(".counts button")
        shown = page.eval_on_selector_all(".counts button span", "labels => labels.map(label => label.textContent)")
        assert shown == ["tidal", "not", "unsure", "stream", "shell", labels[1], "disagreement"]
        corners = "&polygon=".join("00101101")
        for address in ("search?start=similar&like=1007", "judge?start=ranking", "rank", f"map?polygon={corners}"):
            page.goto(f"{link.split('/?')[0]}/#{address}")
            tiles(page)
            page.wait_for_selector(".facts")
            cut_off = """() => [...document.querySelectorAll("button, a, label, input, select, .counts, .who")]
                .filter((part) => part.getBoundingClientRect().right > innerWidth)
                .map((part) => part.textContent)"""
            assert page.evaluate(cut_off) == []
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_label_that_is_not_configured_contradicts_no_other(page, run_to_judge):
    book = LabelBook(run_to_judge / "labels")
    for object_id, label, who in (
        (1000, "tidal", "bob"),
        (1000, "odd", "cy"),
        (1001, "unsure", "bob"),
        (1001, "odd", "cy"),
    ):
        book.append(new_mark(object_id, label, who))
    with explorer_process(run_to_judge) as (_, link):
        page.goto(f"{link}#search?start=labels")
        page.wait_for_selector(".counts button")
        assert page.text_content(".tile[data-id='1000'] .mark.yes") == "tidal, odd"
        assert page.text_content(".tile[data-id='1001'] .mark.unsure") == "unsure, odd"
        counts = page.eval_on_selector_all(".counts button", "counts => counts.map((count) => count.textContent)")
        assert counts == ["tidal 1", "odd 1"]


def test_a_long_id_leaves_room_for_its_value_and_shows_its_end(page, link):
    page.goto(link)
    tiles(page)
    page.evaluate("() => document.querySelector('.tile bdi').textContent = '-142305084218421321'")
    name, text, value = (
        page.locator(f".tile >> nth=0 >> {part}").bounding_box() for part in ("b", "bdi", ".caption > span")
    )
    assert name["x"] + name["width"] < value["x"]
    assert text["width"] > name["width"]
    assert text["x"] + text["width"] == pytest.approx(name["x"] + name["width"], abs=1)


def test_two_pages_see_each_others_marks(page, link):
    page.goto(link)
    first = tiles(page)[0]
    second = page.context.new_page()
    second.goto(page.url)
    tiles(second)
    page.hover(f".tile[data-id='{first}']")
    page.keyboard.press("h")
    second.wait_for_selector(f".tile[data-id='{first}'] .mark.yes")
    assert second.text_content(f".tile[data-id='{first}'] .mark") == "shell"


def test_a_galaxy_that_the_focus_has_left_is_not_labelled(page, link, run_to_judge):
    page.goto(link)
    galaxy = tiles(page)[0]
    page.focus(f".tile[data-id='{galaxy}']")
    page.focus(".export a")
    page.keyboard.press("t")
    page.focus(f".tile[data-id='{galaxy}']")
    page.keyboard.press("h")
    page.wait_for_selector(f".tile[data-id='{galaxy}'] .mark >> text=shell")
    assert [mark.label for mark in marks_of(run_to_judge)] == ["shell"]


def test_controls_keep_their_own_keys_and_leave_labels_to_the_galaxy_under_the_pointer(page, link):
    page.goto(link)
    first, second = tiles(page)[:2]
    for galaxy, control, key in ((first, "select >> nth=0", "s"), (second, "input[type=range]", "h")):
        page.focus(control)
        page.hover(f".tile[data-id='{galaxy}']")
        page.keyboard.press(key)
        page.wait_for_selector(f".tile[data-id='{galaxy}'] .mark.yes")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => location.hash.includes('stretch=1.19')")
    page.hover(".brand")
    page.focus("select >> nth=0")
    page.keyboard.press("i")
    page.wait_for_function("() => location.hash.includes('bands=i')")
    page.hover(f".tile[data-id='{first}']")
    page.fill("input[name=find]", "")
    page.locator("input[name=find]").press_sequentially("n")
    assert page.input_value("input[name=find]") == "n"
    assert page.text_content(f".tile[data-id='{first}'] .mark") == "stream"


def test_the_last_label_is_undone_from_a_grid(page, link, run_to_judge):
    page.goto(link)
    galaxy = tiles(page)[0]
    page.hover(f".tile[data-id='{galaxy}']")
    page.keyboard.press("h")
    page.wait_for_selector(f".tile[data-id='{galaxy}'] .mark")
    page.keyboard.press("z")
    page.wait_for_selector(f".tile[data-id='{galaxy}'] .mark", state="detached")
    LabelBook(run_to_judge / "labels").append(new_mark(int(galaxy), "shell", "ada"))
    page.click("text=Judged")
    page.wait_for_selector(f".tile[data-id='{galaxy}'] .mark")
    page.goto(page.url.split("#")[0] + "#search?start=random&k=1&seed=3")
    page.wait_for_selector(f".tile[data-id='{galaxy}']", state="detached")
    tiles(page)
    page.keyboard.press("z")
    page.wait_for_selector(f".banner >> text=the label of {galaxy} is undone")


def test_eight_windows_work_at_once(page, link):
    """Open more windows than a browser has connections to one host, which is six."""
    page.goto(link)
    first = tiles(page)[0]
    windows = [page, *(page.context.new_page() for _ in range(7))]
    for window in windows[1:]:
        window.goto(page.url)
        tiles(window)
    page.hover(f".tile[data-id='{first}']")
    page.keyboard.press("h")
    for window in windows:
        window.wait_for_selector(f".tile[data-id='{first}'] .mark.yes")


def test_a_page_goes_on_after_the_server_was_started_again(page, run_to_judge):
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        first, second = tiles(page)[:2]
    page.wait_for_selector(".banner >> text=the server does not answer")
    page.click(f".tile[data-id='{second}']")
    page.wait_for_selector(".heading >> text=the server does not answer")
    port = link.split("/?")[0].rsplit(":", 1)[1]
    with explorer_process(run_to_judge, "--port", port) as (_, link):
        page.wait_for_selector(".banner >> text=open the link that tidalkin explore printed")
        page.context.new_page().goto(link)
        page.wait_for_selector(".banner", state="detached")
        page.wait_for_selector(".heading >> text=most similar")
        LabelBook(run_to_judge / "labels").append(new_mark(int(first), "shell", "bob"))
        page.wait_for_selector(f".tile[data-id='{first}'] .mark >> text=shell")
        page.wait_for_selector(".counts >> text=shell")


def test_a_count_in_the_header_lists_its_galaxies(page, link):
    page.goto(link)
    page.click("text=Judged")
    page.wait_for_selector("text=no galaxy is judged yet")
    page.click("text=Most debris")
    first, second, *_ = tiles(page)
    for identity, key in ((first, "h"), (second, "n")):
        page.hover(f".tile[data-id='{identity}']")
        page.keyboard.press(key)
        page.wait_for_selector(f".tile[data-id='{identity}'] .mark")
    page.click(".counts >> text=shell")
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.includes('judged galaxies, shell')")
    assert tiles(page) == [first]


def test_without_a_samp_hub_the_page_says_what_to_start(page, run_to_judge, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # a hub of the person stays out of it
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        tiles(page)
        page.click(".export >> text=TOPCAT")
        assert "start TOPCAT or Aladin" in page.text_content(".banner")


def test_a_fits_file_is_uploaded_and_a_broken_one_refused(page, link, explored_run, tmp_path):
    page.goto(link)
    page.set_input_files("input[name=upload]", {"name": "x.fits", "mimeType": "", "buffer": b"no FITS file"})
    assert "upload" in page.text_content(".banner")
    content = one_file(explored_run, tmp_path, 1007)
    page.set_input_files("input[name=upload]", {"name": "x.fits", "mimeType": "", "buffer": content})
    page.wait_for_selector(".example.like img")
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.includes('most similar')")
    page.wait_for_function("() => document.querySelector('.tile')?.dataset.id === '1007'")


def test_html_in_a_catalog_is_shown_as_text(page, link):
    page.goto(link)
    page.hover(f".tile[data-id='{tiles(page)[0]}']")
    page.wait_for_selector(".facts .columns")
    assert "<script>document.title" in page.text_content(".facts .columns")
    assert page.title() == "small · tidalkin"


def test_galaxies_whose_images_are_lost_say_so_and_hide_no_others(page, run_to_judge):
    lose_images(run_to_judge)
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        tiles(page)
        page.wait_for_function("() => document.querySelector('.tile .picture').style.backgroundImage !== 'none'")
        page.hover(".tile[data-id='1040']")
        page.wait_for_selector(".large[data-id='1040'] >> text=is lost or damaged")
        page.hover(".tile[data-id='1007']")
        page.wait_for_selector(".large[data-id='1007'] .fault", state="detached")


def test_pictures_that_cannot_be_drawn_are_said_in_a_sentence(page, link):
    page.goto(link)
    page.goto(f"{link.split('/?')[0]}/#search?bands=w")
    page.wait_for_selector(".banner >> text=band 'w' is not among the run's bands")


def test_nothing_moves_while_pictures_load(page, link):
    page.goto(link)
    ids = tiles(page)
    where = "id => JSON.stringify(document.querySelector(`.tile[data-id='${id}']`).getBoundingClientRect())"
    before = page.evaluate(where, ids[9])
    page.wait_for_function("() => document.querySelector('.tile .picture').style.backgroundImage !== 'none'")
    page.wait_for_selector(".facts")
    assert page.evaluate(where, ids[9]) == before


def test_the_heading_changes_together_with_its_list(page, link):
    page.goto(link)
    first = tiles(page)[0]
    before, held = page.text_content(".heading"), []
    page.route(re.compile("api/galaxies.*start=similar"), lambda route: held.append(route))
    page.click(f".tile[data-id='{first}']")
    page.wait_for_selector(".list.busy")
    page.wait_for_selector(".example.like")
    assert page.text_content(".heading") == before
    page.wait_for_timeout(100)
    held[0].continue_()
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.includes('most similar')")
    assert first not in tiles(page)


def test_a_damaged_map_says_how_to_make_it_again(page, run_to_judge):
    (run_to_judge / "map.parquet").write_bytes(b"no Parquet")
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        page.click("nav >> text=map")
        page.wait_for_selector(".banner >> text=snakemake --forcerun map")


def test_another_run_at_the_same_port_shows_its_own_map(page, run_to_judge, tmp_path):
    runs = [run_to_judge, tmp_path / "second" / "small"]
    shutil.copytree(run_to_judge, runs[1])
    shutil.copytree(tmp_path / "config", tmp_path / "second" / "config")
    port, heard = "0", []
    for run, object_id in zip(runs, (1000, 1007), strict=True):
        write_map([run / "embeddings" / "00000.npy"], run / "map.parquet", "pca", seed=1)
        points = pd.read_parquet(run / "map.parquet")
        points["x"] = 0.5 * (points["object_id"] == object_id)
        points.to_parquet(run / "map.parquet")
        with explorer_process(run, "--port", port) as (_, link):
            page.goto(link)
            with page.expect_response("**/api/map/points*") as answer:
                page.click("nav >> text=map")
            heard.append(answer.value.body())
            if port == "0":
                old = page.context.new_page()
                old.goto(page.url)
                old.evaluate("() => { window.isOld = true; }")
            else:
                old.wait_for_function("() => !window.isOld")  # loaded again by itself
        port = link.split("/?")[0].rsplit(":", 1)[1]
    first, second = heard
    assert first != second


def test_a_fault_after_a_click_on_the_map_is_said(page, run_to_judge):
    write_map([run_to_judge / "embeddings" / "00000.npy"], run_to_judge / "map.parquet", "pca", seed=1)
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        page.click("nav >> text=map")
        page.route("**/api/map/nearest*", lambda route: route.fulfill(status=400, json={"error": "a fault"}))
        page.click(".map")
        page.wait_for_selector(".banner >> text=a fault")


def draw_around_all(page):
    box = page.locator(".map").bounding_box()
    left, top, right, bottom = (
        box["x"] + 4,
        box["y"] + 4,
        box["x"] + box["width"] - 4,
        box["y"] + box["height"] - 4,
    )
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def test_an_address_that_changes_while_the_page_is_first_drawn_is_followed(browser, run_to_judge, link):
    context = browser.new_context()
    context.set_default_timeout(SECONDS)
    context.add_init_script(
        """addEventListener("DOMContentLoaded", () => {
            const drawn = new MutationObserver(() => { drawn.disconnect(); location.hash = "#judge"; });
            drawn.observe(document.getElementById("app"), { childList: true });
        })"""
    )
    page = context.new_page()
    page.goto(link)
    page.wait_for_selector("nav button.on:text-is('judge')")
    context.close()


@pytest.mark.parametrize("webgl", [True, False])
def test_a_line_on_the_map_selects_galaxies_with_and_without_webgl(browser, run_to_judge, webgl):
    write_map([run_to_judge / "embeddings" / "00000.npy"], run_to_judge / "map.parquet", "pca", seed=1)
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    context.set_default_timeout(SECONDS)
    if not webgl:
        context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page = context.new_page()
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        page.goto(f"{link.split('/?')[0]}/#map")
        page.wait_for_selector(".map canvas" if webgl else ".map img")
        page.wait_for_function(
            "() => !document.querySelector('.map img') || document.querySelector('.map img').complete"
        )
        page.wait_for_selector("text=Click a point to see its galaxy")
        draw_around_all(page)
        page.wait_for_function("() => location.hash.includes('polygon=')")
        assert len(tiles(page)) > 40
        address = page.url
        second = context.new_page()
        second.goto(address)
        assert tiles(second) == tiles(page)
    context.close()


def test_a_selection_on_an_enlarged_map_keeps_its_corners_apart(page, run_to_judge):
    write_map([run_to_judge / "embeddings" / "00000.npy"], run_to_judge / "map.parquet", "pca", seed=1)
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        page.click("nav >> text=map")
        page.wait_for_selector(".map canvas")
        page.hover(".map")
        page.mouse.wheel(0, -4000)
        page.wait_for_timeout(300)
        draw_around_all(page)
        page.wait_for_function("() => location.hash.includes('polygon=')")
        box = page.locator(".map").bounding_box()
        drawn = page.eval_on_selector(".map polygon", "line => line.getAttribute('points')")
    left, top = (float(one) for one in drawn.split()[0].split(","))
    assert left * box["width"] / 100 == pytest.approx(4, abs=2)  # in pixels; draw_around_all begins there
    assert top * box["height"] / 100 == pytest.approx(4, abs=2)


def test_the_address_of_a_map_holds_what_is_enlarged_and_clicked(page, run_to_judge):
    write_map([run_to_judge / "embeddings" / "00000.npy"], run_to_judge / "map.parquet", "pca", seed=1)
    with explorer_process(run_to_judge) as (_, link):
        page.goto(link)
        page.click("nav >> text=map")
        page.wait_for_selector(".map canvas")
        page.click(".map")
        page.wait_for_function("() => location.hash.includes('at=')")
        page.mouse.wheel(0, -900)
        page.wait_for_function("() => location.hash.includes('view=')")
        draw_around_all(page)
        page.wait_for_function("() => location.hash.includes('polygon=')")
        second = page.context.new_page()
        second.set_viewport_size(page.viewport_size)
        second.goto(page.url)
        lines, clicked = [], []
        for one in (page, second):
            one.wait_for_selector(".tile")
            one.wait_for_selector(".large[data-id]")
            line = one.eval_on_selector(".map polygon", "line => line.getAttribute('points')")
            lines.append([float(number) for number in re.split("[ ,]", line)])
            clicked.append(one.get_attribute(".large", "data-id"))
    assert lines[1] == pytest.approx(lines[0], abs=0.1)
    assert max(lines[1]) > 95
    assert clicked[0] == clicked[1]


def test_offers_are_judged_and_change_the_ranking(page, link, run_to_judge):
    book = LabelBook(run_to_judge / "labels")
    book.append(new_mark(1000, "tidal", "bob"))
    page.goto(link)
    base = link.split("/?")[0]
    page.goto(f"{base}/#judge?k=12")
    for is_last in (False, False, True):  # from twenty marks on, some offers are drawn at random
        for number in range(12):
            judged(page, number, 12)
            page.keyboard.press("tn"[number % 2])
        judged(page, 12, 12)
        if not is_last:
            page.click("text=Offer more")
    page.click("text=See the ranking")
    page.wait_for_function("() => document.querySelector('.heading')?.textContent?.includes('most likely of')")
    page.wait_for_function("() => document.querySelector('.estimate b')?.textContent?.includes('%')")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 48")
