"""One module a stage, each with one `step`, and what the stages share."""
