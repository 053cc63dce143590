"""Settings, logs and the composition root."""
