"""All rules over several fields, in the order in which they are told."""

from __future__ import annotations

from llmtrain_operator.manifest.rules.combinations import COMBINATIONS
from llmtrain_operator.manifest.rules.data import ON_DATA
from llmtrain_operator.manifest.rules.rule import Rule
from llmtrain_operator.manifest.rules.unread import UNREAD

RULES: tuple[Rule, ...] = (*ON_DATA, *COMBINATIONS, *UNREAD)
