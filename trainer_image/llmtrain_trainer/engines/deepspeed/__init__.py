"""Engine `deepspeed`: ZeRO 0 to 3 with offload, tensor parallelism by AutoTP's layers, pipelines, and all of them as a mesh.

settings.py    TrainerConfig -> DeepSpeed's configuration, the only place that writes it
assemble.py    the model of a rank, layer by layer: weights, split over tp, sharded over dp
replica.py     a whole model a replica: ZeRO 0 to 3, with AutoTP
pipeline.py    stages as a PipelineModule: ZeRO 0 or 1, with tensor parallelism inside
engine.py      what the loop calls; norm.py, weights.py: gradient norm without ZeRO, whole weights for exports
files.py       a checkpoint of any layout, read; optimizer_state.py: into this rank's optimizer; disk.py: saved from a disk
"""

from llmtrain_trainer.engines.deepspeed.engine import DeepSpeedEngine

__all__ = ["DeepSpeedEngine"]
