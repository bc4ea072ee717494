"""An explorer of a small run, served on localhost from a thread or a process."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pandas as pd
import uvicorn
from astropy.io import fits

from surveys.small_run import CUTOUTS, write_encoded_run, write_outside
from tidalkin.catalog.read import write_catalog
from tidalkin.config import Settings
from tidalkin.explorer.guard import Guard
from tidalkin.explorer.server import Explorer, create_app
from tidalkin.explorer.single_images import CHECKSUM_BYTES
from tidalkin.explorer.survey import Survey
from tidalkin.images.store import ImageStore
from tidalkin.search.files import RunFiles

TOKEN = "the token of the tests"
HUGE_ID = 2**60 + 1
"""More than a number in JavaScript holds exactly."""


CONFIG = """\
run: small
cutouts: {size_arcsec: 2.7}
images: {size: 16, shard_size: 64, chunk_size: 32}
stretch: {bin: 1}
embedding: {dimensions: 8, symmetries: 1, whitening_views: 0}
"""
"""The run's configuration, so that an uploaded galaxy is embedded like those of the run."""


def write_explored_run(folder):
    """Write a configured run with a ranking, debris maps and a column of HTML."""
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(CONFIG)
    run = folder / "results" / "small"
    run.mkdir(parents=True)
    files = write_encoded_run(run)
    catalog = pd.read_parquet(files.catalog)
    catalog["remark"] = "<script>document.title = 'broken in'</script>"
    catalog["magnitude"] = np.linspace(18, 24, len(catalog))
    write_catalog(catalog, files.catalog)
    ids = np.load(files.embeddings / "00000.ids.npy")
    score = np.random.default_rng(3).standard_normal(len(ids)).astype(np.float32)
    pd.DataFrame({"object_id": ids, "debris_score": score}).to_parquet(run / "ranking.parquet")
    maps = np.random.default_rng(4).standard_normal((len(ids), 4, 4)).astype(np.float16)
    np.save(files.embeddings / "00000.debris_map.npy", maps)
    return run


def settings():
    """Make the settings of the run, whose images are too small for a training."""
    parts = {"images": CUTOUTS.images, "embedding": CUTOUTS.embedding, "compute": CUTOUTS.compute}
    return Settings(run="small").model_copy(update=parts)


@contextmanager
def served(run, who="ada"):
    """Serve a run from a thread, and yield a client that has the token."""
    explorer = Explorer(Survey(run), settings(), who)
    server = uvicorn.Server(
        uvicorn.Config(
            Guard(create_app(explorer, TOKEN), TOKEN),
            port=0,
            log_level="warning",
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
        client.get("/", params={"token": TOKEN})
        yield client
    server.should_exit = True
    thread.join(30)


@contextmanager
def explorer_process(run, *options):
    """Run `tidalkin explore`, and yield the process and its link."""
    command = [sys.executable, "-c", "from tidalkin.cli import main; main()", "explore", str(run)]
    command += ["--no-browser", "--who", "ada", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        link = None
        while link is None:
            line = process.stdout.readline()
            assert line, "the explorer ended before it printed its link"
            link = re.search(r"http://\S+", line)
        yield process, link[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def lose_images(run):
    """Overwrite the images of galaxies 1032 to 1059, a chunk of the store, with zeros."""
    file = ImageStore.open(RunFiles.of(run).images).files_of(0)[0]
    content = bytearray(file.read_bytes())
    (_, _), (offset, length) = np.frombuffer(content[-CHECKSUM_BYTES - 32 : -CHECKSUM_BYTES], "<u8").reshape(2, 2)
    content[int(offset) : int(offset + length)] = bytes(int(length))
    file.write_bytes(content)


def one_file(run, folder, object_id):
    """Write a galaxy of the run as one FITS file with an HDU per band."""
    template = write_outside(RunFiles.of(run), folder, object_id)
    hdus = [fits.PrimaryHDU()]
    for band in "gri":
        with fits.open(template.format(band=band)) as opened:
            image = next(hdu for hdu in opened if hdu.data is not None)
            header = opened[0].header + image.header
            hdus.append(fits.ImageHDU(image.data.copy(), header, name=band.upper()))
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()
