"""What the refusal says: a larger embedding, saved where model.source looks."""

from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("model")
model.resize_token_embeddings(317)
model.save_pretrained("model")
