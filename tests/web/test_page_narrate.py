"""What the narrate tab shows when looks cross each other; what it looks like is `test_browser`'s."""

from types import SimpleNamespace

import pytest

from egoinstructor.narration.options import NarrationOptions
from egoinstructor.web.jobs import Job


@pytest.mark.slow  # imports Gradio
def test_a_look_that_is_drawn_too_late_is_mended_by_the_next(monkeypatch):
    """The visitor chooses the first job while a look at the second is on its way: it may be drawn behind that choice."""
    gr = pytest.importorskip("gradio")
    from egoinstructor.web import page_narrate

    monkeypatch.setattr(page_narrate, "upload_player", lambda *_, **__: "")
    first, second = (Job(SimpleNamespace(name=name), NarrationOptions(), id=name) for name in ("first", "second"))
    jobs = {job.id: job for job in (first, second)}
    service = SimpleNamespace(captioner=SimpleNamespace(calibration=None), model_name="nano", job=jobs.__getitem__)
    with gr.Blocks():
        tab = page_narrate.NarrateTab(service)

    def look(selected, drawn):
        """What is drawn then, whether the state is drawn anew, and whether there is another look."""
        view = tab._view(("first", "second"), selected, drawn)
        return view.get(tab._drawn, drawn), tab._state in view, view[tab._timer].active

    waiting, _, _ = look("second", None)
    first.state, second.state = "done", "cancelled"
    late, drawn, again = look("second", waiting)  # over are both, and yet
    assert (drawn, again) == (True, True)
    chosen, drawn, again = look("first", late)
    assert (chosen[0], drawn, again) == ("first", True, True)
    assert look("first", chosen) == (chosen, False, False)
