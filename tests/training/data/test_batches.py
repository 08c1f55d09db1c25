from dataclasses import replace

import numpy as np
import pytest
import torch

from luminanet.errors import DataError
from training.data.batches import ImageSource, TextSource, blocks
from training.data.datasets import Images, Tokens
from training.presets import IMAGE_PRESETS, TEXT_PRESETS

CONFIG = IMAGE_PRESETS["cifar10"].having(batch=16, held_out=0.2)
RNG = np.random.default_rng(0)
IMAGES = Images(RNG.integers(0, 256, (100, 3, 32, 32), np.uint8), np.arange(100) % 10)
TOKENS = Tokens(np.arange(1000), 1000)
TEXT = TEXT_PRESETS["gpt2"].having(batch=4, context=16, held_out=0.1)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, two = ImageSource(IMAGES, CONFIG, 10), ImageSource(IMAGES, CONFIG, 10)
    one.batch(0)
    assert torch.equal(one.batch(3).inputs, two.batch(3).inputs)
    assert not torch.equal(one.batch(3).inputs, one.batch(4).inputs)
    other = ImageSource(IMAGES, replace(CONFIG, seed=1), 10)
    assert not torch.equal(one.batch(3).inputs, other.batch(3).inputs)


def test_an_epoch_shows_every_training_image_once() -> None:
    source = ImageSource(IMAGES, CONFIG, 10)
    rows = torch.cat([source.rows(step) for step in range(5)])
    assert rows.sort().values.tolist() == list(range(80))


def test_held_out_images_are_never_trained_on() -> None:
    source = ImageSource(IMAGES, replace(CONFIG, augment=False, mixup=0.0), 10)
    held = {image.numpy().tobytes() for image in source.held_out[0].inputs}
    seen = {image.numpy().tobytes() for step in range(5) for image in source.batch(step).inputs}
    assert len(held) == 20
    assert len(seen) == 80
    assert not held & seen


def test_without_augmentation_the_images_are_untouched() -> None:
    source = ImageSource(IMAGES, replace(CONFIG, augment=False, mixup=0.0), 10)
    pixels = (source.batch(0).inputs * 255).round().to(torch.uint8).numpy()
    whole = {image.tobytes() for image in IMAGES.pixels_NCYX}
    assert all(image.tobytes() in whole for image in pixels)


def test_the_same_images_are_held_out_for_every_seed() -> None:
    one, two = (ImageSource(IMAGES, replace(CONFIG, seed=seed), 10) for seed in (0, 1))
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(one.padded, two.padded)
    for here, there in zip(one.held_out, two.held_out, strict=True):
        assert torch.equal(here.inputs, there.inputs)
    assert not torch.equal(one.rows(0), two.rows(0))


def test_without_a_seed_of_its_own_the_split_is_that_of_earlier_versions() -> None:
    config = replace(CONFIG, seed=5, split_seed=None)
    source = ImageSource(IMAGES, config, 10)
    order = np.random.default_rng(5).permutation(len(IMAGES))
    held = round(0.2 * len(IMAGES))
    expected = torch.from_numpy(IMAGES.pixels_NCYX[order[:held]]).float() / 255
    assert torch.equal(torch.cat([batch.inputs for batch in source.held_out]), expected)


def test_a_larger_share_keeps_out_what_a_smaller_one_does() -> None:
    few, many = (ImageSource(IMAGES, replace(CONFIG, held_out=h), 10) for h in (0.1, 0.2))
    kept = torch.cat([batch.inputs for batch in many.held_out])
    assert torch.equal(torch.cat([batch.inputs for batch in few.held_out]), kept[: len(kept) // 2])


def test_crops_are_moved_and_mirrored_windows() -> None:
    source = ImageSource(IMAGES, CONFIG, 10)
    padded = source.padded[:8]
    cropped = source.crop(padded, torch.Generator().manual_seed(0))
    for before, after in zip(padded, cropped, strict=True):
        windows = [
            window
            for top in range(9)
            for left in range(9)
            for window in [before[:, top : top + 32, left : left + 32]]
        ]
        assert any(torch.equal(after, w) or torch.equal(after, w.flip(2)) for w in windows)


def test_mixed_labels_are_probabilities() -> None:
    source = ImageSource(IMAGES, CONFIG, 10)
    mixed = [b.targets for b in map(source.batch, range(20)) if b.targets.is_floating_point()]
    assert mixed
    assert all(torch.allclose(t.sum(1), torch.ones(16)) for t in mixed)


def test_targets_are_the_next_tokens() -> None:
    batch = TextSource(TOKENS, TEXT).batch(5)
    assert batch.inputs.shape == (4, 16)
    assert torch.equal(batch.targets, batch.inputs + 1)


def test_held_out_tokens_are_never_trained_on() -> None:
    source = TextSource(TOKENS, TEXT)
    first_held = int(source.held_out[0].inputs.min())
    seen = max(int(source.batch(step).targets.max()) for step in range(200))
    assert seen < first_held == 900


def test_blocks_cover_the_stream_without_overlap() -> None:
    inputs, targets = blocks(torch.arange(10), 3)
    assert inputs.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert torch.equal(targets, inputs + 1)


def test_too_little_data_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="lower --batch"):
        ImageSource(IMAGES, replace(CONFIG, batch=512), 10)
    with pytest.raises(DataError, match="lower --context"):
        TextSource(TOKENS, replace(TEXT, context=600))
