"""Imported by the server that ranks fork from, before the first fork: everything heavy a rank needs is then there in no time.

The server must stay single-threaded and must not touch the GPU, so nothing imported here may do either: a forked child has no threads
but its own, and cannot use its parent's CUDA context.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os

from llmtrain_trainer.agent.processes.orphans import die_with_parent
from llmtrain_trainer.agent.processes.variables import MODULES, PARENT, SERVER

os.environ[SERVER] = str(os.getpid())

if PARENT in os.environ:
    die_with_parent(int(os.environ[PARENT]))

for name in filter(None, os.environ.get(MODULES, "").split(",")):
    with contextlib.suppress(ImportError):  # a rank that needs it will say what is missing
        importlib.import_module(name)

gc.collect()
gc.freeze()  # objects made so far stay out of collections, so that forked ranks keep sharing their pages
