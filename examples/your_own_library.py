# %% [markdown]
# # Your own library
#
# From a folder of how-to videos to captions of your own first-person clips. Each `# %%` is a cell: run the file as a
# script, or cell by cell in an editor that knows them.
#
#     python examples/your_own_library.py howto/ ego.mp4 --clip openai/clip-vit-large-patch14 --model weights/4shot
#
# `howto/` holds videos, with subtitles beside them if there are any (`omelette.mp4`, `omelette.srt`).

# %%
from __future__ import annotations

import argparse
from pathlib import Path

from egoinstructor import Captioner, ExoLibrary
from egoinstructor.library.references import Retrieval
from egoinstructor.library.selection import SelectionRules

parser = argparse.ArgumentParser()
parser.add_argument("videos", help="folder of how-to videos")
parser.add_argument("ego", help="first-person clip")
parser.add_argument("--model", required=True, help="the captioner's folder")
parser.add_argument("--clip", required=True, help="the CLIP that it was built on, folder or Hub id")
parser.add_argument("--library", default="my_library", help="where to make the library")
options = parser.parse_args()

# %% [markdown]
# ## Fill it
#
# The captioner's own CLIP finds the references, looking through the captioner's eyes: one pass of a clip serves both. Any
# other retriever will do, `open_retriever("google/siglip2-base-patch16-224")` or one trained for the purpose.
#
# Subtitles are merged into clips of a few seconds. Stop it whenever you like: the same line goes on where it was, and
# clips that are there already are not made again. What could not be read is in the report.

# %%
captioner = Captioner.from_pretrained(options.model)
retriever = captioner.open_retriever(options.clip)

make = ExoLibrary.open if Path(options.library).exists() else ExoLibrary.create
library = make(options.library, retriever)
print(library.ingest(options.videos, latents=captioner))
print(library.stats())

# %% [markdown]
# ## Search it
#
# By words, or by a clip.

# %%
for hit in library.search(text="stir the sauce", k=3):
    print(f"{hit.score:.3f}  {hit.entry.video}  {hit.entry.start:.1f}–{hit.entry.end:.1f} s  {hit.entry.text}")

# %% [markdown]
# ## Caption with it
#
# The library keeps what the captioner made of its clips, so that references are not decoded again. `caption.dropped` says
# which hits were passed over, and why.

# %%
caption = captioner.caption(options.ego, library=library, shots=4)
print(caption.text)
for reference in caption.references:
    print(f"  {reference.score:.3f}  {reference.clip}  {reference.narration}")
for dropped in caption.dropped:
    print(f"  not read ({dropped.reason}): {dropped.narration}")

# %% [markdown]
# Only references that are similar enough, at most two of one video, and narrations counted too:

# %%
retrieval = Retrieval(narration_weight=0.3, rules=SelectionRules(per_video=2, min_score=0.2))
print(captioner.caption(options.ego, library=library, retrieval=retrieval).text)
print("without references:", captioner.caption(options.ego).text)
