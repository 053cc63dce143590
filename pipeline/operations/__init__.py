"""What operators do to work: requeue, rework, cancel, dead letters, batches."""
