"""Where a round of the ranks begins, as the agent passes it to them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from llmtrain_trainer.data.mixing.course import Course


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a round begins: the content of resume.json."""

    round: int = 0
    checkpoint: str | None = None
    step: int = 0
    directory: str | None = None
    consumed_samples: int = 0
    consumed_tokens: int = 0
    target_steps: int = 0
    course: Course | None = None

    def text(self) -> str:
        """The position as JSON."""
        return json.dumps(asdict(self) | {"course": self.course.model_dump(by_alias=True) if self.course else None})

    @classmethod
    def read(cls, text: str) -> Position:
        """The position that `text` returned."""
        said = json.loads(text)
        return cls(**said | {"course": Course.model_validate(said["course"]) if said["course"] else None})
