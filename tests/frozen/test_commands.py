"""Every command on the demo's data: its output, its exit code and its files are those of `tests/golden/commands`.

CONTRIBUTING.md (Tests) says how to record them anew.
"""

from __future__ import annotations

import pytest
from transcripts import Case, transcript

EGO = "demo/ego/test-000540.mp4"
TOY = "--base toy/base --captioner toy/captioner.pt --tokenizer toy/tokenizer"
METADATA = "--instructions instructions.json --config config.json"
TWO_STEPS = (
    "--max_steps 2 --logging_steps 1 --use_cpu true --disable_tqdm true --per_device_train_batch_size 2 --seed 1"
)

CASES = {
    "caption": Case(f"""
        egoinstructor caption {EGO} --model nano
        egoinstructor caption {EGO} --model nano --library demo/library
        egoinstructor caption {EGO} --model nano --library demo/library --likeliest --json
        egoinstructor caption {EGO} --model nano --start 0.5 --end 1.5 --num-frames 4 --num-beams 1 --json
        egoinstructor caption {EGO} --model nano --reference demo/exo/test-000302.mp4 "close the sinil" --shots 1 --json
        egoinstructor caption --testdata testdata.json --model nano --batch-size 2
        egoinstructor caption --testdata testdata.json --model nano --library demo/library --shots 1 --json
        egoinstructor caption {EGO} {TOY} --max-new-tokens 5
    """),
    "narrate": Case(
        """
        egoinstructor narrate howto/recording.mp4 --model nano --library demo/library --html
        egoinstructor narrate howto/recording.mp4 --model nano --library demo/library --html
        egoinstructor narrate howto/recording.mp4 --model nano --no-merge --from 2 --overlap 1 --threshold 0.5 \
            --out out/ --json
        egoinstructor narrate howto/recording.mp4 --model nano --cut changes --out changes
        """,
        show=("recording.[jsv]*", "out/recording.srt", "changes.srt"),
    ),
    "stream": Case("""
        egoinstructor stream live.mkv --model nano --idle 0.05 --no-drop
        egoinstructor stream live.mkv --model nano --library demo/library --shots 2 --idle 0.05 --no-drop --json
    """),
    "demo": Case("egoinstructor demo", slow=True, may_differ=8),
    "demo-own": Case(f"egoinstructor demo {EGO} --library demo/library --out page --json"),
    "library": Case(
        f"""
        egoinstructor library create lib --retriever nano
        egoinstructor library ingest lib demo/clips.csv --name talk --model nano --latents
        egoinstructor library ingest lib howto --json
        egoinstructor library ingest lib few/exo --window 1 --workers 1
        egoinstructor library ingest lib few/exo
        egoinstructor library search lib howto/recording.mp4 --start 0 --end 2 -k 3
        egoinstructor library search lib --text sinil -k 2 --json
        egoinstructor library search lib {EGO} --text sink --narration-weight 0.5 --source talk -k 2 --json
        egoinstructor library sources lib --json
        egoinstructor library sources lib --root howto few --json
        egoinstructor library stats lib
        egoinstructor library stats lib --json
        egoinstructor library verify lib
        egoinstructor library verify lib --files --json
        egoinstructor library export lib clips.csv
        egoinstructor library export lib clips.jsonl
        egoinstructor library delete lib --source exo
        egoinstructor library delete lib --video recording.mp4
        egoinstructor library stats lib --json
        """,
        show=("clips.csv", "clips.jsonl"),
    ),
    "library-clip": Case(f"""
        egoinstructor library create lib --retriever clip --num-frames 2 --device cpu
        egoinstructor library ingest lib few/exo
        egoinstructor library search lib {EGO} -k 1
        egoinstructor library stats lib
    """),
    "prepare": Case(
        f"""
        egoinstructor prepare resize few/ego small --shorter-side 48 --workers 1
        egoinstructor prepare resize few/ego small --shorter-side 48 --workers 1 --json
        egoinstructor prepare chunk few/ego pieces --workers 1
        egoinstructor prepare inspect {METADATA} --ego demo/ego --exo demo/exo
        egoinstructor prepare inspect {METADATA} --ego few/ego --exo demo/exo --json
        egoinstructor prepare pairs ego_pairs.json exo_pairs.json --out pairs --spacy pipeline --replace
        egoinstructor prepare references found {METADATA} --ego demo/ego --library demo/library --count 2
        egoinstructor prepare features few/ego features --backbone clip --device cpu
        """,
        show=("pairs/*.json", "found/*.json"),
    ),
    "evaluate-captions": Case(
        """
        egoinstructor evaluate --data demo/split.jsonl --model nano --metrics BLEU-4,ROUGE-L,CIDEr --no-narration \
            --out listed
        egoinstructor evaluate --data demo/split.jsonl --model nano --library demo/library --metrics CIDEr \
            --treatment nlgeval --no-narration --out found --json
        """,
        show=("listed/predictions.jsonl", "listed/results.json", "listed/row.*"),
    ),
    "evaluate-baselines": Case(
        """
        egoinstructor evaluate --data demo/split.jsonl --baseline retrieval-only --metrics CIDEr --treatment nlgeval \
            --spacy pipeline --out copied
        egoinstructor evaluate --data demo/split.jsonl --model nano --references oracle --metrics CIDEr \
            --treatment nlgeval --spacy pipeline --out oracle
        egoinstructor evaluate --data demo/split.jsonl --model nano --baseline text-only --metrics CIDEr \
            --treatment nlgeval --no-narration --out text
        egoinstructor compare copied oracle
        """,
        show=("oracle/predictions.csv",),
        slow=True,
    ),
    "evaluate-retrieval": Case(
        """
        egoinstructor evaluate --task retrieval --ego-pairs ego_pairs.json --exo-pairs exo_pairs.json \
            --ego-videos demo/ego --exo-videos demo/exo --retriever nano --out clips
        egoinstructor evaluate --task retrieval --queries queries.npy --gallery gallery.npy --json
        """,
        show=("clips/results.json",),
        may_differ=1,
    ),
    "score": Case(
        """
        egoinstructor score --predictions said.jsonl --references truths.json --metrics BLEU-4,ROUGE-L,CIDEr \
            --no-narration --out said
        egoinstructor score --predictions guessed.json --references truths.json --metrics CIDEr --treatment nlgeval \
            --spacy pipeline --out guessed
        egoinstructor score --predictions guessed.json --references truths.json --metrics CIDEr --treatment nlgeval \
            --no-narration --clean-narration --json
        egoinstructor compare guessed said
        egoinstructor compare guessed said --resamples 100 --seed 1 --json
        """,
        show=("said/predictions.csv", "guessed/results.json"),
    ),
    "score-java": Case(
        "egoinstructor score --predictions said.jsonl --references truths.json --metrics METEOR,CIDEr --no-narration",
        slow=True,
    ),
    "train": Case(
        f"""
        egoinstructor train {TOY} --train_data demo/split.jsonl --shots 1 --num_frames 2 --output_dir run {TWO_STEPS}
        """,
        show=("run/metrics.jsonl",),
    ),
    "train-retriever": Case(
        f"""
        egoinstructor prepare features demo/ego features --backbone clip --device cpu
        egoinstructor prepare features demo/exo features --backbone clip --device cpu
        egoinstructor train --task retriever --tokenizer clip --train_ego ego_pairs.json --train_exo exo_pairs.json \
            --features_ego features --features_exo features --hidden_size 16 --num_layers 1 --num_heads 2 \
            --projection_dim 8 --text_context 16 --text_hidden_size 16 --text_num_layers 1 --text_num_heads 2 \
            --output_dir run {TWO_STEPS}
        """,
        show=("run/metrics.jsonl",),
        slow=True,
    ),
    "convert": Case(f"""
        egoinstructor convert {TOY} --out model
        egoinstructor export --model model --out original
        egoinstructor info model --json
        egoinstructor caption {EGO} --model model --num-beams 1 --max-new-tokens 5
    """),
    "original": Case(
        """
        python test_video.py --testdata testdata.json --pretrained_name_or_path toy/base \
            --pretrained_checkpoint toy/captioner.pt --tokenizer toy/tokenizer --max_shot 1 --max_num_frames 4
        python main.py --pretrained_model_name_or_path toy/base --trained_ckpt toy/captioner.pt \
            --tokenizer toy/tokenizer --datapath_ego demo/ego --datapath_exo demo/exo --metapath instructions.json \
            --train_config_path config.json --xview --max_shot 1 --run_name tested --batch_size 2 --testonly \
            --save_predictions
        """,
        show=("tested/predictions.csv",),
        absent=("pycocoevalcap", "spacy"),
    ),
    "simulate": Case(
        """
        egoinstructor simulate --events 2 --out kitchen --split test --seed 3 --size 32 --frames 4
        egoinstructor simulate --events 2 --out kitchen --split test --seed 3 --size 32 --frames 4 --json
        """,
        show=("kitchen/test/*.json*", "kitchen/test/*.csv"),
    ),
    "errors-video": Case(f"""
        egoinstructor caption
        egoinstructor caption none.mp4 --model nano
        egoinstructor caption demo --model nano
        egoinstructor caption text.mp4 --model nano
        egoinstructor caption {EGO} --model nano --start 100 --end 104
        egoinstructor caption {EGO} --model nano --start 2 --end 1
        egoinstructor caption {EGO} --model nano --reference none.mp4 "cut it"
        egoinstructor stream rtsp://camera.example/live --model nano
    """),
    "errors-options": Case(f"""
        egoinstructor caption {EGO} --model nano --shot 3
        egoinstructor caption {EGO} --model nano --num-beams 0
        egoinstructor caption {EGO} --model nano --num-beams two
        egoinstructor caption {EGO} --model nano --num-frames 9
        egoinstructor caption {EGO} --model nano --shots 2
        egoinstructor caption {EGO} --model nano --narration-weight 0.5
        egoinstructor caption {EGO} --model nano --testdata testdata.json
        egoinstructor evaluate --task retrieval --shots 2
        egoinstructor library search demo/library
        egoinstructor serve --host 0.0.0.0
        egoinstructor serve --limit upload=1
        egoinstructor serve --token-file short_token.txt
        egoinstructor stream live.mkv --model nano --overlap 5
    """),
    "errors-model": Case(f"""
        egoinstructor caption {EGO}
        egoinstructor caption {EGO} --model models/4shot/none
        egoinstructor caption {EGO} --model howto
        egoinstructor caption {EGO} --model nano --base toy/base
        egoinstructor caption {EGO} --captioner toy/captioner.pt
        egoinstructor evaluate --data demo/split.jsonl --out run
        egoinstructor convert --base toy/base --captioner none.pt --out model
    """),
    "errors-library": Case(f"""
        egoinstructor caption {EGO} --model nano --library none
        egoinstructor caption {EGO} --model nano --library demo/library --source howto
        egoinstructor caption {EGO} --model nano --library demo/library --narration-weight 2
        egoinstructor library search demo/library {EGO} --retriever clip
        egoinstructor library create demo/library --retriever nano
        egoinstructor library create lib --retriever models/clip/none
        egoinstructor library create lib --retriever nano
        egoinstructor library ingest lib none
        egoinstructor library ingest lib no_start.csv
        egoinstructor library ingest lib demo/clips.csv --latents
        egoinstructor library delete lib --video none.mp4
        egoinstructor library export lib clips.xlsx
    """),
    "errors-files": Case("""
        egoinstructor caption --testdata none.json --model nano
        egoinstructor caption --testdata list.json --model nano
        egoinstructor caption --testdata broken.json --model nano
        egoinstructor evaluate --data no_video.jsonl --model nano --out run
        egoinstructor evaluate --task retrieval --retriever nano --benchmark mcq file
        egoinstructor evaluate --task retrieval --queries queries.npy --gallery list.json
        egoinstructor prepare inspect --instructions list.json
        egoinstructor prepare pairs list.json exo_pairs.json --out pairs --spacy pipeline
        egoinstructor score --predictions said.jsonl --references list.json
        egoinstructor score --predictions said.jsonl --references truths.json --metrics BLUE
        egoinstructor compare none said
        egoinstructor train --config unknown_option.yaml
        egoinstructor train --train_data demo/split.jsonl --output_dir run
        egoinstructor train --base toy/base --train_data demo/split.jsonl --output_dir run --max_steps many
    """),
    "errors-writing": Case(f"""
        egoinstructor demo {EGO} --out file/page
        egoinstructor narrate {EGO} --model nano --out file/name
        egoinstructor library create file/lib --retriever nano
        egoinstructor prepare resize few/ego file/small
        egoinstructor score --predictions said.jsonl --references truths.json --metrics CIDEr --no-narration --out file
        egoinstructor narrate {EGO} --model nano --out name
        egoinstructor narrate {EGO} --model nano --out name --num-beams 2
        egoinstructor evaluate --data demo/split.jsonl --baseline retrieval-only --metrics CIDEr --no-narration \
            --treatment coco --out run
        egoinstructor evaluate --data demo/split.jsonl --baseline retrieval-only --metrics CIDEr --no-narration \
            --treatment coco --out run --seed 1
    """),
    "errors-extras": Case(
        f"""
        egoinstructor caption {EGO} --model nano --library demo/library
        egoinstructor demo
        egoinstructor serve
        egoinstructor prepare pairs ego_pairs.json exo_pairs.json --out pairs
        egoinstructor simulate --events 1 --out kitchen
        """,
        absent=("lancedb", "PIL", "fastapi", "spacy", "mujoco"),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * case.slow) for name, case in CASES.items()]
)
def test_command(name, workplace, names, same_as_recorded):
    case = CASES[name]
    same_as_recorded(f"{name}.txt", transcript(case, workplace, names), may_differ=case.may_differ)


def test_every_recorded_file_has_its_test(recordings):
    expected = {f"{name}.txt" for name in CASES} | {"options.json", "openapi.json", "serve.txt"}
    assert {file.name for file in recordings.iterdir()} <= expected
