"""Where checkpoints are kept: one small Protocol over directories and S3 buckets."""
