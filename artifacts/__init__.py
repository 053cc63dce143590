"""What work leaves behind: bodies, artifacts, lineage and evidence."""
