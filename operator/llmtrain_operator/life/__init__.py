"""The life of a job: observations in, decisions and status out. Pure: time and names are arguments."""
