"""What a run was, on one page: report.html and loss.png from the files of a run directory."""

from llmtrain_trainer.report.page import write_report

__all__ = ["write_report"]
