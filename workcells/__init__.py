"""Who does one job: the cells, the shapes that rows take before a cell sees them, and the appliers."""
