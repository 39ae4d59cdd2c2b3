"""What a job needs of the image, and what is said where it is not there."""

from __future__ import annotations

from typing import Any

import pytest
from small_job import Job, config_of

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.prepare import installed

NEEDED: list[tuple[dict[str, Any], str]] = [
    ({"engine": "deepspeed"}, r"parallelism.engine is deepspeed: the package deepspeed is not in this image. .* or engine native"),
    ({"engine": "megatron"}, r"parallelism.engine is megatron: the package megatron.core is not in this image"),
    (
        {"model": {"config": {"model_type": "llama"}, "attention": "flash"}},
        r"model.attention is flash: the package flash_attn is not in",
    ),
    (
        {"engine": "deepspeed", "offload": {"optimizer": "nvme", "path": "/d"}},
        r"parallelism.offload is nvme: DeepSpeed reads and",
    ),
]


@pytest.mark.parametrize(("changes", "message"), NEEDED, ids=[str(case[0]) for case in NEEDED])
def test_what_the_image_lacks_is_refused_before_ranks_start(
    job: Job, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(installed, "is_there", lambda _: "offload" in changes)
    monkeypatch.setattr(installed, "_reads_disks", lambda: False)
    with pytest.raises(BadData, match=message):
        job.prepare(config_of([{"source": job.text_file()}], **changes))


def test_what_is_here_is_found() -> None:
    assert installed.is_there("deepspeed") and installed.is_there("megatron.core") and not installed.is_there("not_installed.at_all")
