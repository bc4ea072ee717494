"""Training: the loop, its checkpoints, its faults, and several processes."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

import published
from surveys.trained import BANDS, LOSSES, SECTIONS, small_store
from tidalkin import config
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.checkpoint import load_encoder, random_encoder
from tidalkin.model.data import TrainingImages, windows_of_epoch
from tidalkin.model.train import rate_factor, train


def with_training(**values):
    return SECTIONS | {"training": SECTIONS["training"].model_copy(update=values)}


def with_compute(**values):
    return SECTIONS | {"compute": SECTIONS["compute"].model_copy(update=values)}


def started(store, output, sections):
    """Start a training in a process of its own."""
    plain = {key: value.model_dump() if hasattr(value, "model_dump") else value for key, value in sections.items()}
    job = json.dumps(plain | {"store": str(store), "output": str(output)})
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root / "workflow")}
    command = [sys.executable, root / "tests" / "programs" / "train.py", job]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def history(output):
    return pd.read_csv(output / "history.csv")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store") / "images.zarr")


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "encoder"
    train(store, output, **SECTIONS)
    return output


# --- the loop -------------------------------------------------------------------------------------------------------


def test_training_leaves_an_encoder_a_history_and_a_tensorboard(undisturbed):
    loaded = load_encoder(undisturbed / "encoder.pt", SECTIONS["encoder"])
    assert loaded.bands == BANDS
    assert loaded.sigma.tolist() == [1, 1, 1]
    assert loaded.image_size == 20
    table = history(undisturbed)
    assert list(table) == ["epoch", "step", *LOSSES, "learning_rate", "collapse_std", "images_per_second"]
    assert table.epoch.tolist() == [1, 2, 3, 4]
    assert table.step.tolist() == [5, 10, 15, 20]
    assert table.loss.between(-1, 1).all()
    assert list((undisturbed / "tensorboard").glob("events.*"))
    assert not undisturbed.with_name("encoder.partial").exists()


def test_the_loss_falls_and_the_outputs_stay_spread(store, tmp_path):
    train(store, tmp_path / "encoder", **with_training(epochs=50, base_learning_rate=1.0))
    table = history(tmp_path / "encoder")
    assert table.loss.tail(10).mean() < -0.5  # single epochs scatter at this rate
    assert table.collapse_std.iloc[-1] > 0.5


def test_the_same_inputs_and_seed_give_a_byte_identical_encoder(store, undisturbed, tmp_path):
    train(store, tmp_path / "again", **SECTIONS)
    assert (tmp_path / "again/encoder.pt").read_bytes() == (undisturbed / "encoder.pt").read_bytes()


def test_another_seed_gives_another_encoder(store, undisturbed, tmp_path):
    train(store, tmp_path / "other", **SECTIONS | {"seed": 2})
    assert (tmp_path / "other/encoder.pt").read_bytes() != (undisturbed / "encoder.pt").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"nuisances": config.Nuisances(companions=0.5, gradients=0.5, over_subtraction=0.5, correlated_noise=0.5)},
        {"scale_with_size": True},
        {"stamps": "a folder of one stamp"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_painted_changes_the_encoder_and_is_the_same_every_time(store, undisturbed, tmp_path, changes):
    if "stamps" in changes:
        fits.PrimaryHDU(np.eye(9)).writeto(tmp_path / "stamp.fits")
        changes = {"stamps": config.StampFolder(folder=str(tmp_path), pixel_scale_arcsec=0.168)}
    sections = SECTIONS | {"injection": SECTIONS["injection"].model_copy(update=changes)}
    for name in ("once", "again"):
        train(store, tmp_path / name, **sections)
    encoder = (tmp_path / "once/encoder.pt").read_bytes()
    assert encoder == (tmp_path / "again/encoder.pt").read_bytes()
    assert encoder != (undisturbed / "encoder.pt").read_bytes()
    weights, plain = (load_encoder(path / "encoder.pt").encoder for path in (tmp_path / "once", undisturbed))
    assert not all(map(torch.equal, weights.state_dict().values(), plain.state_dict().values()))


def test_streamed_images_give_the_same_encoder_as_images_in_memory(store, undisturbed, tmp_path):
    train(store, tmp_path / "streamed", **with_compute(images_in="stream"))
    assert (tmp_path / "streamed/encoder.pt").read_bytes() == (undisturbed / "encoder.pt").read_bytes()


def test_galaxies_with_too_few_good_pixels_are_left_out_and_counted(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        bad = small_store(tmp_path / "images.zarr", n_objects=20, bad=(3, 4, 17))
        train(bad, tmp_path / "encoder", **with_training(epochs=1))
    assert "training on 17 of 20 galaxies; 3 have under 50 % good pixels in some band" in caplog.text
    assert history(tmp_path / "encoder").step.tolist() == [2]


def test_the_rate_warms_up_and_then_follows_half_a_cosine():
    settings = config.Training(epochs=10, warmup_epochs=2)
    assert [rate_factor(epoch, settings) for epoch in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])


# --- the order of images --------------------------------------------------------------------------------------------


@given(n_rows=st.integers(1, 200), shard_size=st.integers(1, 40), window=st.integers(1, 100), seed=st.integers(0, 1000))
def test_an_epoch_is_a_permutation_in_windows_of_whole_shards(n_rows, shard_size, window, seed):
    rows = np.sort(np.random.default_rng(seed).permutation(300)[:n_rows])
    windows = windows_of_epoch(rows, shard_size, window, seed, epoch=0)
    assert np.array_equal(np.sort(np.concatenate(windows)), rows)
    shards = [set((part // shard_size).tolist()) for part in windows]
    assert sum(len(each) for each in shards) == len(set.union(*shards))
    assert max(len(part) for part in windows) <= 2 * window + 2 * shard_size


def test_every_epoch_has_another_order():
    rows = np.arange(100)
    orders = [np.concatenate(windows_of_epoch(rows, 10, 20, seed=1, epoch=epoch)).tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("batch_size", [5, 8, 24])
def test_streaming_and_memory_deliver_the_same_batches(store, batch_size):
    opened = ImageStore.open(store)
    kept, streamed = (
        TrainingImages(
            opened,
            np.arange(1, 39),
            batch_size=batch_size,
            window=12,
            seed=3,
            device=torch.device("cpu"),
            images_in=images_in,
        )
        for images_in in ("memory", "stream")
    )
    pairs = list(zip(kept.batches(epoch=2), streamed.batches(epoch=2), strict=True))
    assert len(pairs) == 38 // batch_size
    for one, other in pairs:
        assert torch.equal(one.flux, other.flux)
        assert torch.equal(one.sky_sigma, other.sky_sigma)


@pytest.mark.parametrize("images_in", ["memory", "stream"])
def test_the_shares_of_processes_make_up_the_batches_of_one(store, images_in):
    def batches(rank, processes):
        images = TrainingImages(
            *(ImageStore.open(store), np.arange(1, 39)),
            **{"batch_size": 12, "window": 10, "seed": 3, "device": torch.device("cpu"), "images_in": images_in},
            **{"rank": rank, "processes": processes},
        )
        return [batch.flux for batch in images.batches(epoch=1)]

    shares = zip(*(batches(rank, 3) for rank in range(3)), strict=True)
    for whole, parts in zip(batches(0, 1), shares, strict=True):
        assert torch.equal(torch.cat(parts), whole)


def test_processes_share_the_reading_of_a_window(tmp_path, monkeypatch):
    opened = ImageStore.open(small_store(tmp_path / "images.zarr", n_objects=128, size=8))
    read, read_of_store = [], ImageStore.read
    monkeypatch.setattr(ImageStore, "read", lambda store, shard: read.append(shard) or read_of_store(store, shard))
    for rank in range(2):
        images = TrainingImages(
            *(opened, np.arange(128)),
            **{"batch_size": 64, "window": 128, "seed": 3, "device": torch.device("cpu"), "images_in": "stream"},
            **{"rank": rank, "processes": 2},
        )
        list(images.batches(epoch=0))
    assert len(read) <= 20, "of 16 shards, few are read by both"


def test_streaming_reads_each_shard_once_per_epoch(store, monkeypatch):
    read, read_of_store = [], ImageStore.read
    monkeypatch.setattr(ImageStore, "read", lambda store, shard: read.append(shard) or read_of_store(store, shard))
    images = TrainingImages(
        *(ImageStore.open(store), np.arange(40)),
        **{"batch_size": 8, "window": 12, "seed": 3, "device": torch.device("cpu"), "images_in": "stream"},
    )
    list(images.batches(epoch=0))
    assert sorted(read) == [0, 1, 2, 3, 4]


def test_images_that_do_not_fit_are_streamed_or_refused_with_the_sum(store, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tidalkin.model.data.free_memory", lambda device: 50_000)
    with caplog.at_level(logging.INFO):
        train(store, tmp_path / "auto", **with_training(epochs=1))
    assert "streamed by shard" in caplog.text
    with pytest.raises(TidalkinError, match=r"training images need .* GB"):
        train(store, tmp_path / "memory", **with_compute(images_in="memory"))


# --- interruptions --------------------------------------------------------------------------------------------------


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(store, tmp_path, caplog):
    undisturbed, output, sections = tmp_path / "undisturbed", tmp_path / "encoder", with_training(epochs=20)
    train(store, undisturbed, **sections)
    killed = started(store, output, sections)
    for line in killed.stderr:
        if "epoch 3/20" in line:  # the checkpoint of epoch 2 is written, that of 3 perhaps
            killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert (tmp_path / "encoder.partial/last.pt").exists()
    with caplog.at_level(logging.INFO):
        train(store, output, **sections)
    assert "training goes on after epoch" in caplog.text
    assert (output / "encoder.pt").read_bytes() == (undisturbed / "encoder.pt").read_bytes()
    columns = ["epoch", "step", *LOSSES, "learning_rate", "collapse_std"]
    pd.testing.assert_frame_equal(history(output)[columns], history(undisturbed)[columns])


def test_a_checkpoint_of_another_configuration_is_not_taken_up(store, tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tidalkin.model.train.save_encoder", full)
    with pytest.raises(OSError, match="No space left"):
        train(store, tmp_path / "encoder", **with_training(epochs=1))
    monkeypatch.undo()
    assert (tmp_path / "encoder.partial/last.pt").exists()
    with caplog.at_level(logging.INFO):
        train(store, tmp_path / "encoder", **with_training(epochs=1, weight_decay=0.01))
    assert "training starts anew" in caplog.text


def test_a_damaged_checkpoint_is_not_taken_up(store, tmp_path, caplog):
    (tmp_path / "encoder.partial").mkdir()
    (tmp_path / "encoder.partial/last.pt").write_bytes(b"torn")
    train(store, tmp_path / "encoder", **with_training(epochs=1))
    assert "is cut short or not a torch checkpoint: training starts anew" in caplog.text
    assert (tmp_path / "encoder/encoder.pt").exists()


# --- faults ---------------------------------------------------------------------------------------------------------


def test_a_batch_larger_than_the_good_galaxies_is_refused(store, tmp_path):
    with pytest.raises(TidalkinError, match=r"batch_size is 64, but only 40 of 40 galaxies"):
        train(store, tmp_path / "encoder", **with_training(batch_size=64))


def test_collapse_stops_training_and_says_what_to_change(tmp_path):
    # Without light nor noise all images are one: the network can only give one output.
    images = config.Images(size=20, shard_size=16, chunk_size=4)
    store = ImageStore.create(tmp_path / "images.zarr", objects=16, bands=BANDS, images=images)
    ones = np.ones((16, len(BANDS)), np.float32)
    store.write(0, Shard(np.zeros((16, 3, 20, 20), np.float32), ones, ones, ones, np.arange(16)))
    silent = {
        "augment": published.augment(crop=18, noise_sigma=(0.0, 0.0)),
        "injection": config.Injection(head_weight=0, map_weight=0),
    }
    with pytest.raises(TidalkinError, match=r"collapsed .* lower training.base_learning_rate"):
        train(tmp_path / "images.zarr", tmp_path / "encoder", **with_training(epochs=1) | silent)


def test_divergence_stops_training_and_says_what_to_change(store, tmp_path):
    with pytest.raises(TidalkinError, match=r"the loss is nan in epoch \d.*lower training.base_learning_rate"):
        train(store, tmp_path / "encoder", **with_training(base_learning_rate=1e30, epochs=3))


# --- several processes ----------------------------------------------------------------------------------------------


def test_two_processes_have_the_loss_curve_of_one(store, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        # Rounded to bfloat16, or at a high rate, the sums of one and of two processes part soon.
        compute = config.Compute(device="cpu", precision="float32", processes=processes)
        train(store, tmp_path / name, **with_training(batch_size=20, base_learning_rate=0.05) | {"compute": compute})
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    np.testing.assert_allclose(two.loss, one.loss, atol=1e-4)
    np.testing.assert_allclose(two.collapse_std, one.collapse_std, atol=1e-4)


@pytest.mark.slow
def test_when_one_of_two_processes_is_killed_the_run_fails_and_the_next_goes_on(store, tmp_path, caplog):
    output = tmp_path / "encoder"
    longer = with_training(epochs=30) | {"compute": config.Compute(device="cpu", processes=2)}
    run = started(store, output, longer)
    for line in run.stderr:
        if "epoch 3/30" in line:
            break
    members = [
        child
        for child in psutil.Process(run.pid).children(recursive=True)
        if "tidalkin.model.train" in child.cmdline() and "torch.distributed.run" not in child.cmdline()
    ]
    assert len(members) == 2
    members[1].kill()
    fault = run.stderr.read()
    assert run.wait() != 0
    assert "one of the 2 processes ended early" in fault
    _, alive = psutil.wait_procs(members, timeout=10)
    assert alive == []
    with caplog.at_level(logging.INFO):
        train(store, output, **longer)
    assert "training goes on after epoch" in caplog.text
    assert history(output).epoch.tolist() == list(range(1, 31))


@pytest.mark.slow
def test_members_of_a_group_end_when_their_launcher_is_killed(store, tmp_path):
    run = started(
        store,
        tmp_path / "encoder",
        with_training(epochs=10_000) | {"compute": config.Compute(device="cpu", processes=2)},
    )
    for line in run.stderr:
        if "epoch 1/" in line:
            break
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 3
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    for process in alive:
        process.kill()
    assert alive == []


@pytest.mark.slow
def test_a_fault_in_a_group_is_told_in_the_same_sentence(store, tmp_path):
    with pytest.raises(TidalkinError, match=r"batch_size is 64, but only 40 of 40 galaxies"):
        train(
            store,
            tmp_path / "encoder",
            **with_training(batch_size=64) | {"compute": config.Compute(device="cpu", processes=2)},
        )


def test_a_batch_that_cannot_be_shared_is_refused(store, tmp_path):
    with pytest.raises(TidalkinError, match="batch_size 8 must be a multiple of the 3 processes"):
        train(store, tmp_path / "encoder", **with_compute(processes=3))


# --- the encoder's file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "cut"])
def test_a_damaged_encoder_is_refused(undisturbed, tmp_path, content):
    whole = (undisturbed / "encoder.pt").read_bytes()
    (tmp_path / "encoder.pt").write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
    with pytest.raises(TidalkinError, match=r"encoder.pt: is cut short or not a torch checkpoint: make it again"):
        load_encoder(tmp_path / "encoder.pt")


def test_other_checkpoints_and_missing_files_are_refused(tmp_path):
    with pytest.raises(TidalkinError, match="this encoder does not exist"):
        load_encoder(tmp_path / "encoder.pt")
    torch.save({"state_dict": {}}, tmp_path / "encoder.pt")
    with pytest.raises(TidalkinError, match="not an encoder of tidalkin"):
        load_encoder(tmp_path / "encoder.pt")


def test_an_encoder_of_another_architecture_is_refused_by_its_key(undisturbed):
    with pytest.raises(TidalkinError, match=r"encoder.width is 8 there and 16 in the configuration"):
        load_encoder(undisturbed / "encoder.pt", SECTIONS["encoder"].model_copy(update={"width": 16}))


@pytest.mark.parametrize("key", ["meta", "state"])
def test_an_encoder_that_lacks_a_part_is_refused(undisturbed, tmp_path, key):
    saved = torch.load(undisturbed / "encoder.pt", weights_only=True)
    del saved[key]
    torch.save(saved, tmp_path / "encoder.pt")
    with pytest.raises(TidalkinError, match=f"is an incomplete encoder .*{key}"):
        load_encoder(tmp_path / "encoder.pt")


def test_an_encoder_that_lacks_weights_is_refused(undisturbed, tmp_path):
    saved = torch.load(undisturbed / "encoder.pt", weights_only=True)
    del saved["state"]["conv1.weight"]
    torch.save(saved, tmp_path / "encoder.pt")
    with pytest.raises(TidalkinError, match="its weights do not fit its architecture"):
        load_encoder(tmp_path / "encoder.pt")


def test_random_encoders_differ_by_seed_alone():
    made_of = {"stretch": SECTIONS["stretch"], "settings": SECTIONS["encoder"], "image_size": 20}
    sigma = np.ones(3, np.float32)
    first, again, other = (random_encoder(BANDS, sigma, **made_of, seed=seed) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
