"""Every read face of the queue: lanes, why an item waits, how work ended."""
