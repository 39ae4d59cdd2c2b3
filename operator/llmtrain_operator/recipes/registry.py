"""The trainers whose recipes can be read, by the names of `llmtrain import --from`."""

from __future__ import annotations

from collections.abc import Mapping

from llmtrain_operator.recipes.axolotl.trainer import AXOLOTL
from llmtrain_operator.recipes.llamafactory.trainer import LLAMA_FACTORY
from llmtrain_operator.recipes.table import Trainer

TRAINERS: Mapping[str, Trainer] = {"axolotl": AXOLOTL, "llamafactory": LLAMA_FACTORY}
