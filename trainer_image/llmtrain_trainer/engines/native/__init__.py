"""Engine native: Hugging Face modelling code, FSDP2, DTensor tensor parallelism, context and expert parallelism, torch pipelining."""
