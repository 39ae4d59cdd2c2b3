"""The dashboards as code: `python -m scripts.dashboards` writes charts/llmtrain/files/dashboards/, `--check` compares."""
