"""Engine `accelerate`: whole models as replicas through Hugging Face's Accelerate, by DDP or FSDP2, on the loop of every engine.

launcher.py    TrainerConfig -> Accelerator, the only place that sets it up
model.py       the whole model of a rank with its weights, and the forward that gives the loss
gather.py      whole weights for exports
engine.py      what the loop calls
"""

from llmtrain_trainer.engines.accelerate.engine import AccelerateEngine

__all__ = ["AccelerateEngine"]
