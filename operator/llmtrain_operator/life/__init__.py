"""What is happening to a job, as data. Pure: time, names and what was seen come in as arguments, decisions and status go out."""
