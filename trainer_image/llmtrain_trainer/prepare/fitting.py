"""Whether transformers accepts a model's config.json, and whether its files hold the weights of that model. Checked before ranks start.

The model is built on the meta device. Only the headers of the files are read, by the code that later reads the weights.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.model import Model
from llmtrain_trainer.config.quantized import KEYS, quantized
from llmtrain_trainer.config.tables.tasks import DEFAULT_TASK, Task
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.model.new_head import SCORE
from llmtrain_trainer.prepare.vocabulary import ModelEmbedding

KNOWN_BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.(masked_)?bias|crossattention\.(masked_)?bias|position_ids)")
"""Buffers that older versions of transformers saved beside the weights and that every version computes again."""

OF_ACTIVATIONS = re.compile(r".*\.(input|output|activation|input_activation|[qkv])_(global_)?scale")
"""Scales of activations, which only inference uses."""

OF_QUANTIZATION = re.compile(
    r".*(scale|scales|scale_inv|absmax|quant_map|nested_\w+|quant_state\.\w+|qweight|qzeros|g_idx|weight_packed|weight_shape|zero_point"
    r"|SCB|weight_format|_blocks|W_q|codes|codebooks?|bitmask|compressed|biases)"
)
OF_ADAPTERS = re.compile(r".*(lora_|\.base_layer\.|base_model\.|modules_to_save).*")

ELSEWHERE = ("rope_theta", "rope_scaling", "partial_rotary_factor", "torch_dtype", "auto_map", "head_dim", *KEYS)
"""Keys of a config.json that are read under another name, read by a model itself, or do not describe the network."""

Note = Callable[[str], None]


def check_model(model: Model, directory: Path, note: Note, task: Task = DEFAULT_TASK) -> ModelEmbedding:
    """The embedding of the model in `directory`. `note` receives a sentence for each thing that is ignored. Raises BadData."""
    network = _outline(model, directory, task)
    if model.config is not None:
        _tell_of_unknown_keys(model.config, network.config, note)
    if model.config is None and model.init == "pretrained":
        _check_weights(model, network, directory, note)
    table, head = network.get_input_embeddings(), network.get_output_embeddings()
    names = [f"{name}.weight" for name, module in network.named_modules() if module is table or module is head]
    return ModelEmbedding(int(table.num_embeddings), tuple(names))


def _outline(model: Model, directory: Path, task: Task) -> Any:
    """The model on the meta device: names and shapes."""
    import torch

    from llmtrain_trainer.model.heads import with_head
    from llmtrain_trainer.model.skeleton import shape_of

    try:
        shape = shape_of(directory)
        with torch.device("meta"):
            return with_head(task, shape, dtype=torch.float32, attn_implementation="eager")
    except Exception as error:  # transformers raises many types for the same fault: the config.json is not that of a decoder
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if model.config is not None:
            value = str(model.config.get("model_type"))
            raise BadData("model.config", value, f"transformers does not accept it ({said})", "Correct that key") from error
        rule = f"transformers does not accept its config.json ({said})"
        raise BadData("model.source", model.source, rule, "Correct config.json in a copy, and name that directory") from error


def _tell_of_unknown_keys(config: dict[str, Any], shape: Any, note: Note) -> None:
    """Notices for unknown keys: transformers keeps them and nothing reads them, so a misspelt key would mean the default."""
    known = [key for key in dir(type(shape)()) if not key.startswith("_")]
    unknown = sorted(key for key in config if key not in known and key not in ELSEWHERE and not key.startswith("_"))
    for key in unknown:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        meant = f", is {near[0]} meant?" if near else "."
        note(f"model.config.{key}: a model of type {shape.model_type} has no such key, so it has no effect{meant}")


def _check_weights(model: Model, network: Any, directory: Path, note: Note) -> None:
    from llmtrain_trainer.model.pretrained import Pretrained
    from llmtrain_trainer.model.stage import tied_names
    from llmtrain_trainer.model.weight_files import WrongWeightsError

    found = quantized(json.loads((directory / "config.json").read_text()))
    if found and not found.readable:
        raise BadData("model.source", model.source, *found.refusal)
    try:
        source = Pretrained(directory, network.base_model_prefix, tied_names(network))
        used = _used(network, source)
        _check_tied(source, tied_names(network))
    except WrongWeightsError as error:
        raise BadData("model.source", model.source, error.rule, error.way_out) from error
    left = [name for name in source.entries if name not in used and not KNOWN_BUFFERS.fullmatch(name) and not source.adds_nothing(name)]
    passed = [name for name in left if _serves_something_else(name, network, source, bool(found))]
    if wrong := [name for name in left if name not in passed]:
        raise BadData("model.source", model.source, *_refusal(wrong))
    if passed:
        note(f"model.source: {_counted(passed)} of its files belong to nothing that is trained, and are neither read nor exported.")


def _used(network: Any, source: Any) -> set[str]:
    """Every tensor of the files that a weight of the model is made of. Raises WrongWeightsError if one is missing or has another shape."""
    from llmtrain_trainer.model.stage import saved_buffers
    from llmtrain_trainer.model.weight_files import WrongWeightsError

    used: set[str] = set()
    constants = (pair for prefix, module in network.named_modules() for pair in saved_buffers(module, prefix))
    for name, parameter in (*network.named_parameters(remove_duplicate=False), *constants):  # a tied head may be in the files too
        if source.lacks(name.rpartition(".")[0]):
            continue
        recipe = source.find(name)
        used.update(tensor for weight in recipe.names for tensor in source.tensors_of(weight))
        there, wanted = recipe.shape(source.shapes), tuple(parameter.shape)
        if there != wanted:
            rule = f"{recipe.names[0]} makes a weight of {list(there)} where config.json asks for {list(wanted)} ({name})"
            raise WrongWeightsError(rule, "Check that config.json and weights belong together")
    return used


def _check_tied(source: Any, tied: dict[str, str]) -> None:
    """Files may hold a tied weight twice, if both are the same. Raises WrongWeightsError."""
    from llmtrain_trainer.model.weight_files import WrongWeightsError

    for head, embedding in tied.items():
        (one,), (other,) = source.find(head).names, source.find(embedding).names
        if one != other and not source.equal(one, other):
            rule = f"{one} and {other} differ, and config.json says that they are one weight (tie_word_embeddings)"
            raise WrongWeightsError(rule, "Write tie_word_embeddings: false in config.json of a copy, and name that directory")


def _serves_something_else(name: str, network: Any, source: Any, is_quantized: bool) -> bool:
    """Tensors beside the base model: scales of activations, heads of other tasks, layers that predict further tokens."""
    if is_quantized and OF_ACTIVATIONS.fullmatch(name):
        return True
    if OF_ADAPTERS.fullmatch(name) or OF_QUANTIZATION.fullmatch(name):
        return False
    if any(re.search(pattern, name) for pattern in network._keys_to_ignore_on_load_unexpected or ()):
        return True
    first = name.partition(".")[0]
    if name.startswith("lm_head.") or source.lacks(name.rpartition(".")[0]):
        return hasattr(network, SCORE)
    return first != network.base_model_prefix and first not in dict(network.base_model.named_children())


def _refusal(names: list[str]) -> tuple[str, str]:
    """Rule and way out for tensors that no weight of the model uses."""
    if adapters := [name for name in names if OF_ADAPTERS.fullmatch(name)]:
        return f"its files hold an adapter beside the weights ({_counted(adapters)})", "Merge it first (peft: merge_and_unload)"
    if scales := [name for name in names if OF_QUANTIZATION.fullmatch(name)]:
        rule = f"its weights are quantized ({_counted(scales)}), and config.json does not say how to read them"
        return rule, "Name the model that it was made from, in fp32, bf16 or fp16"
    rule = f"no weight of the model that config.json describes is made of {_counted(names)} in its files, so it is another model"
    return rule, "Check that config.json and weights belong together: number of layers, biases, experts"


def _counted(names: list[str]) -> str:
    return f"{len(names)} tensors such as {names[0]}" if len(names) > 1 else names[0]
