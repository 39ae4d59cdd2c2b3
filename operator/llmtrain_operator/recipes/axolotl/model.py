"""Axolotl's keys of model, tokenizer and adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.recipes.counterpart import (
    Counterpart,
    RecipeKey,
    Settings,
    Told,
    by_itself,
    cannot,
    changed,
    differs,
    is_on,
    maps,
    no_effect,
    switch,
)
from llmtrain_operator.recipes.values import count, place, real, text
from llmtrain_operator.recipes.words import adapter, of_variant, targets, variant
from llmtrain_trainer.config.tables.adapters import ADAPTERS
from llmtrain_trainer.config.tables.chat_templates import CHAT_TEMPLATES

_BASE = "the frozen weights are not quantised: more memory, and no rounding of the base"
_NAMED = {"llama3_vision": "llama3", "qwen_25": "qwen", "mistral_v1": "mistral", "phi_3": "phi", "phi_35": "phi", "deepseek_v2": "deepseek"}

_KINDS = {"AutoModelForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "GemmaForCausalLM"}


def _template(value: Any, _: Settings) -> Told:
    word = text(value)
    known = _NAMED.get(word, word)
    if known in CHAT_TEMPLATES:
        return Told(outcome=Counterpart.MAPS, fields={"tokenizer.chatTemplate": known})
    if word.startswith("tokenizer_default"):
        return Told(outcome=Counterpart.SAME, note="the tokenizer's own chat template is the default")
    if word == "jinja":
        return Told(outcome=Counterpart.SAME, note="chat_template_jinja holds the template")
    note = f"llmtrain has no template of the name {word}: the tokenizer's own is used; tokenizer.chatTemplate takes a Jinja text"
    return Told(outcome=Counterpart.DIFFERS, note=note)


def _kind(value: Any, _: Settings) -> Told:
    if str(value) in _KINDS:
        return Told(outcome=Counterpart.SAME, note="config.json names the architecture")
    if "Classification" in str(value):
        return Told(outcome=Counterpart.MAPS, fields={"task": "classify"})
    if str(value).endswith("ForCausalLM"):
        return Told(outcome=Counterpart.DIFFERS, note="config.json names the architecture; the plan says whether an engine trains it")
    return Told(outcome=Counterpart.CANNOT, note=f"{value} is no decoder of text")


def method(recipe: Settings) -> str | None:
    """The adapter method that a recipe trains."""
    return variant(is_on(recipe.get("adapter")), {"dora": recipe.get("peft_use_dora"), "rslora": recipe.get("peft_use_rslora")})


def _adapter(value: Any, recipe: Settings) -> Told:
    """lora or qlora, as the method that the other keys make of it."""
    word, chosen = text(value).strip().lower(), method(recipe)
    if word not in ("lora", "qlora") or chosen is None:
        return Told(outcome=Counterpart.CANNOT, note=f"no such adapter: this version has {', '.join(ADAPTERS)}")
    return adapter(chosen) if word == "lora" else adapter(chosen, Counterpart.DIFFERS, _BASE)


def _targets(value: Any, recipe: Settings) -> Told:
    if is_on(recipe.get("lora_target_linear")):
        targets(value)
        return Told(
            outcome=Counterpart.MAPS, fields={"peft.targetModules": ["all-linear"]}, note="lora_target_linear adds every linear layer"
        )
    return Told(outcome=Counterpart.MAPS, fields={"peft.targetModules": targets(value)})


_INIT = "A is drawn as peft does by default, B is 0"


def _init(value: Any, _: Settings) -> Told:
    if value is True:
        return Told(outcome=Counterpart.SAME, note=_INIT)
    return Told(outcome=Counterpart.DIFFERS if is_on(value) else Counterpart.CANNOT, note=_INIT)


def _jinja(value: Any, recipe: Settings) -> Told:
    """The template itself, which a named template goes before; a path of one is not followed."""
    written = text(value)
    if str(recipe.get("chat_template") or "jinja") != "jinja":
        return Told(outcome=Counterpart.NO_EFFECT, note="chat_template names another")
    if "{" not in written:
        return Told(outcome=Counterpart.CANNOT, note=f"write the text of {shown(written, 40)} into tokenizer.chatTemplate")
    return Told(outcome=Counterpart.MAPS, fields={"tokenizer.chatTemplate": written})


_CODE = changed("code of a repository is never run; the plan says whether an engine knows the architecture")

KEYS: Mapping[str, RecipeKey] = {
    "base_model": maps("model.source", place),
    "base_model_config": by_itself("config.json is read beside the weights"),
    "revision_of_model": maps("model.revision", text),
    "model_type": RecipeKey(outcome=Counterpart.SAME, into=("task",), note="config.json names the architecture", read=_kind),
    "num_labels": by_itself("labels are those of the data, or spec.labels"),
    "reinit_weights": switch(maps("model.init", lambda _: "random")),
    "trust_remote_code": switch(_CODE),
    "tokenizer_type": by_itself("tokenizer.json says its own kind"),
    "tokenizer_config": maps("tokenizer.source", place),
    "tokenizer_use_fast": by_itself("tokenizer.json is read by the tokenizers library"),
    "tokenizer_legacy": by_itself("tokenizer.json holds what it decides"),
    "tokenizer_use_mistral_common": switch(changed("tokenizer.json of the repository is used, not mistral-common's own file")),
    "processor_type": cannot("images and sound are not trained on"),
    "chat_template": RecipeKey(outcome=Counterpart.MAPS, into=("tokenizer.chatTemplate",), read=_template),
    "chat_template_jinja": RecipeKey(outcome=Counterpart.MAPS, into=("tokenizer.chatTemplate",), read=_jinja),
    "special_tokens.pad_token": by_itself("rows are padded by a mask, so that no token is needed"),
    "special_tokens.bos_token": changed("the tokenizer's own token begins a text"),
    "special_tokens.eos_token": changed("the chat template's end of turn is learned, and exported as the end of generation"),
    "special_tokens.unk_token": changed("the tokenizer's own is used"),
    "eot_tokens": changed("ends of turns are those that the chat template writes; they are learned and exported"),
    "tokens": cannot("tokens are not added to a tokenizer: add them to its files, whose new rows are trained"),
    "added_tokens_overrides": cannot("rename the tokens in tokenizer.json"),
    "resize_token_embeddings_to_32x": switch(changed("the vocabulary keeps its size; tensor parallelism handles odd ones")),
    "adapter": switch(RecipeKey(outcome=adapter("lora").outcome, into=("peft.method",), read=_adapter)),
    "load_in_4bit": switch(changed(_BASE)),
    "load_in_8bit": switch(changed(_BASE)),
    "bnb_config_kwargs.bnb_4bit_use_double_quant": switch(changed(_BASE)),
    "quantize_moe_experts": switch(changed(_BASE)),
    "model_quantization_config": changed("weights that transformers can dequantise are; the plan refuses the others"),
    "model_quantization_config_kwargs.dequantize": by_itself("weights that can be dequantised are"),
    "lora_r": maps("peft.rank", count),
    "lora_alpha": maps("peft.alpha", real),
    "lora_dropout": maps("peft.dropout", real),
    "lora_target_linear": switch(maps("peft.targetModules", lambda _: ["all-linear"])),
    "lora_target_modules": RecipeKey(outcome=Counterpart.MAPS, into=("peft.targetModules",), read=_targets),
    "lora_fan_in_fan_out": by_itself("layers say how their weights lie"),
    "lora_model_dir": switch(cannot("training does not start from an adapter")),
    "lora_target_parameters": switch(cannot("parameters that are no linear layer have no adapters")),
    "lora_modules_to_save": switch(cannot("modules beside adapters stay frozen")),
    "peft_use_rslora": of_variant("rslora", method),
    "peft_use_dora": of_variant("dora", method),
    "loraplus_lr_ratio": switch(maps("peft.learningRateRatio", real)),
    "peft_init_lora_weights": RecipeKey(outcome=Counterpart.DIFFERS, note=_INIT, read=_init),
    "peft_autocast_adapter_dtype": by_itself("adapters are in fp32"),
    "peft_layers_to_transform": cannot("every layer has adapters"),
    "lora_on_cpu": no_effect("each rank reads only its own shards"),
    "lora_rank_pattern": cannot("every adapter has one rank"),
    "lora_alpha_pattern": cannot("every adapter has one alpha"),
    "loraplus_lr_embedding": no_effect("embeddings have no adapters"),
    "relora": cannot("adapters are not merged while training runs"),
    "gptq": cannot("the frozen weights are not quantised"),
    "unfrozen_parameters": switch(cannot("weights are trained all, or as adapters")),
    "freeze_mm_modules": by_itself("models of text have none"),
    "model_config.output_router_logits": differs("model.config", "set in config.json: router losses follow it", lambda _: None),
}
