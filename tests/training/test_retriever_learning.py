"""The retriever learns to find an ego clip's how-to clip among clips it has never seen, better by EgoExoNCE than by InfoNCE.

32 actions look unlike from the two sides, and every clip has noise of its own. A batch has many clips of an action: plain
InfoNCE pushes those apart that belong together, EgoExoNCE does not. The whole path is the real one: features and pairs in
files, the trainer, the temperature.
"""

from __future__ import annotations

import pytest

from egoinstructor.training.retriever_arguments import parse_retriever
from egoinstructor.training.retriever_run import build_retriever_trainer

ACTIONS, TRAIN, TEST = 32, 256, 128
CHANCE = 1 / ACTIONS  # every action has as many clips
MARGIN = 4 * (CHANCE * (1 - CHANCE) / TEST) ** 0.5  # 4 standard errors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_pairs_are_found(views, tmp_path, seed):
    views.tokenizer(tmp_path / "tokenizer")
    views.write(tmp_path, "train", TRAIN, actions=ACTIONS, noise=0.25, seed=seed)
    views.write(tmp_path, "test", TEST, actions=ACTIONS, noise=0.25, seed=seed + 1000)
    before, after = {}, {}
    for loss in ("egoexonce", "infonce"):
        options = views.options(
            tmp_path, tmp_path / loss, loss=loss, seed=seed, eval_ego=tmp_path / "test_ego.json",
            eval_exo=tmp_path / "test_exo.json", hidden_size=64, text_hidden_size=64, projection_dim=32,
            max_steps=None, num_train_epochs=20, per_device_train_batch_size=64, learning_rate=3e-3, logging_steps=1000,
        )  # fmt: skip
        trainer = build_retriever_trainer(parse_retriever(None, options))
        before[loss] = trainer.evaluate()["eval_ego_exo_r1"]
        trainer.train()
        after[loss] = trainer.evaluate()["eval_ego_exo_r1"]
    assert max(before.values()) <= CHANCE + MARGIN
    assert after["egoexonce"] > 0.9
    assert after["egoexonce"] > after["infonce"] + 0.05
