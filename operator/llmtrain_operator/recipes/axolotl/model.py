"""Axolotl's keys of model, tokenizer and adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Told, by_itself, cannot, changed, choice, differs, maps, switch
from llmtrain_operator.recipes.values import names, place, real, whole
from llmtrain_operator.recipes.words import adapter
from llmtrain_trainer.config.tables.chat_templates import CHAT_TEMPLATES

_BASE = "the frozen weights are not quantised: more memory, and no rounding of the base"
_NAMED = {"llama3_vision": "llama3", "qwen_25": "qwen", "mistral_v1": "mistral", "phi_3": "phi", "phi_35": "phi", "deepseek_v2": "deepseek"}

_KINDS = {"AutoModelForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "GemmaForCausalLM"}


def _template(value: Any) -> Told:
    word = str(value)
    known = _NAMED.get(word, word)
    if known in CHAT_TEMPLATES:
        return Told(outcome=Counterpart.MAPS, fields={"tokenizer.chatTemplate": known})
    if word.startswith("tokenizer_default"):
        return Told(outcome=Counterpart.SAME, note="the tokenizer's own chat template is the default")
    if word == "jinja":
        return Told(outcome=Counterpart.SAME, note="chat_template_jinja holds the template")
    note = f"llmtrain has no template of the name {word}: the tokenizer's own is used; tokenizer.chatTemplate takes a Jinja text"
    return Told(outcome=Counterpart.DIFFERS, note=note)


def _kind(value: Any) -> Told:
    if str(value) in _KINDS:
        return Told(outcome=Counterpart.SAME, note="config.json names the architecture")
    if "Classification" in str(value):
        return Told(outcome=Counterpart.MAPS, fields={"task": "classify"})
    if str(value).endswith("ForCausalLM"):
        return Told(outcome=Counterpart.DIFFERS, note="config.json names the architecture; the plan says whether an engine trains it")
    return Told(outcome=Counterpart.CANNOT, note=f"{value} is no decoder of text")


_CODE = changed("code of a repository is never run; the plan says whether an engine knows the architecture")

KEYS: Mapping[str, RecipeKey] = {
    "base_model": maps("model.source", place),
    "base_model_config": by_itself("config.json is read beside the weights"),
    "revision_of_model": maps("model.revision", str),
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
    "chat_template_jinja": maps("tokenizer.chatTemplate", str),
    "special_tokens.pad_token": by_itself("rows are padded by a mask, so that no token is needed"),
    "special_tokens.bos_token": changed("the tokenizer's own token begins a text"),
    "special_tokens.eos_token": changed("the chat template's end of turn is learned, and exported as the end of generation"),
    "special_tokens.unk_token": changed("the tokenizer's own is used"),
    "eot_tokens": changed("ends of turns are those that the chat template writes; they are learned and exported"),
    "tokens": cannot("tokens are not added to a tokenizer: add them to its files, whose new rows are trained"),
    "added_tokens_overrides": cannot("rename the tokens in tokenizer.json"),
    "resize_token_embeddings_to_32x": switch(changed("the vocabulary keeps its size; tensor parallelism handles odd ones")),
    "adapter": choice(
        {
            "lora": adapter("lora"),
            "qlora": adapter("lora", Counterpart.DIFFERS, _BASE),
            "none": Told(outcome=Counterpart.SAME, note="all weights are trained"),
            "": Told(outcome=Counterpart.SAME, note="all weights are trained"),
        },
        cannot("no such adapter"),
    ),
    "load_in_4bit": switch(changed(_BASE)),
    "load_in_8bit": switch(changed(_BASE)),
    "bnb_config_kwargs.bnb_4bit_use_double_quant": switch(changed(_BASE)),
    "quantize_moe_experts": switch(changed(_BASE)),
    "model_quantization_config": changed("weights that transformers can dequantise are; the plan refuses the others"),
    "model_quantization_config_kwargs.dequantize": by_itself("weights that can be dequantised are"),
    "lora_r": maps("peft.rank", whole),
    "lora_alpha": maps("peft.alpha", real),
    "lora_dropout": maps("peft.dropout", real),
    "lora_target_linear": switch(maps("peft.targetModules", lambda _: ["all-linear"])),
    "lora_target_modules": maps("peft.targetModules", names),
    "lora_fan_in_fan_out": by_itself("layers say how their weights lie"),
    "lora_model_dir": switch(cannot("training does not start from an adapter")),
    "lora_target_parameters": switch(cannot("parameters that are no linear layer have no adapters")),
    "lora_modules_to_save": switch(cannot("modules beside adapters stay frozen")),
    "peft_use_rslora": switch(maps("peft.method", lambda _: "rslora")),
    "peft_use_dora": switch(RecipeKey(outcome=adapter("dora").outcome, note=adapter("dora").note, read=lambda _: adapter("dora"))),
    "loraplus_lr_ratio": switch(maps("peft.learningRateRatio", real)),
    "peft_init_lora_weights": changed("A is drawn as peft does by default, B is 0"),
    "unfrozen_parameters": switch(cannot("weights are trained all, or as adapters")),
    "freeze_mm_modules": by_itself("models of text have none"),
    "model_config.output_router_logits": differs("model.config", "set in config.json: router losses follow it", lambda _: None),
}
