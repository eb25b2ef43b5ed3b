"""Options that change on the way through a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from egoinstructor.errors import InputError

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Schedule(Generic[Number]):
    """A number by the progress of the run: how many references a sample has, or how many batches have none.

    Args:
        steps: (number, until), the last until 1.
    """

    steps: tuple[tuple[Number, float], ...]

    @classmethod
    def parse(cls, name: str, text: str, number: type[Number], high: float = math.inf) -> Schedule[Number]:
        """Read "1@0.15,2@0.4,4": one up to 15 % of the run, two up to 40 %, then four; "4": four throughout.

        Args:
            name: of the option, for the error.
            text: its value.
            number: int or float.
            high: what no number may exceed; none may be below 0.

        Raises:
            InputError: another form, a number out of range, or shares of the run that don't rise to below 1.
        """
        try:
            parts = [part.split("@") for part in text.split(",")]
            steps = tuple((number(part[0]), float(part[1]) if len(part) == 2 else 1.0) for part in parts)
        except ValueError as error:
            raise InputError(f"{name}={text!r}; write it as '4', or by progress as '1@0.15,2@0.4,4'.") from error
        ends = [end for _, end in steps]
        if ends != sorted(set(ends)) or not all(0 < end < 1 for end in ends[:-1]) or ends[-1] != 1:
            raise InputError(f"{name}={text!r}: shares of the run must rise between 0 and 1, the last step has none.")
        if not all(0 <= value <= high for value, _ in steps):
            raise InputError(f"{name}={text!r}; each number must lie between 0 and {high:g}.")
        return cls(steps)

    def at(self, progress: float) -> Number:
        """The number at this point of the run, from 0 to 1."""
        return next((value for value, until in self.steps if progress < until), self.steps[-1][0])
