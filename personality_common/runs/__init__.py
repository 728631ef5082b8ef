"""A run of any trainer: plan, folder, checkpoints, record, schedule, curve; processes, workers and device."""
