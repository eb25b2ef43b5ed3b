"""Run jobs in worker processes: `each(make, jobs, workers=…)` yields `Done`, `Failed` or `Died` for every job."""

from egoinstructor.engine.local import ATTEMPTS, Died, Done, Failed, Outcome, each

__all__ = ["ATTEMPTS", "Died", "Done", "Failed", "Outcome", "each"]
