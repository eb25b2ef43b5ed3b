"""What training leaves out of features that are kept."""

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.training.arguments import DataArguments
from egoinstructor.training.augment import drop_features


def test_whole_frames_are_left_out_and_never_all_of_a_clip():
    torch.manual_seed(0)
    dropped = drop_features(torch.ones(40, 3, 4, 2, 5), 0.0, 0.5)
    frames = dropped.flatten(3)
    assert torch.equal(frames.amin(-1), frames.amax(-1))
    kept = frames.amax(-1)  # (B, C, F)
    assert kept.any(-1).all()
    assert kept[..., 1:].mean().item() == pytest.approx(0.5, abs=0.08)
    assert drop_features(torch.ones(2, 1, 4, 1, 1), 0.0, 1.0).sum() == 2  # the first of each clip


def test_numbers_are_left_out_one_by_one_and_their_mean_stays():
    torch.manual_seed(0)
    dropped = drop_features(torch.ones(20, 2, 4, 3, 32), 0.25, 0.0)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


def test_without_kept_features_there_is_nothing_to_drop():
    with pytest.raises(InputError, match=r"frame_dropout=0\.2.*feature_cache"):
        DataArguments(train_data="x", frame_dropout=0.2)
    with pytest.raises(InputError, match=r"feature_dropout=1\.5"):
        DataArguments(train_data="x", feature_dropout=1.5, feature_cache="y")
