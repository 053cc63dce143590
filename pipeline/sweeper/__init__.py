"""What has to happen without a worker: expired leases, due work, abandoned bytes."""
