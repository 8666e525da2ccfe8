"""Work that is done once: a command of a table or of the flywheel is a job, kept under a hash of what decides it."""
