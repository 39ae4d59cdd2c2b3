"""peft opens the exported adapter by itself, base and all."""

import sys

from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
print(model.peft_config["default"].base_model_name_or_path)
