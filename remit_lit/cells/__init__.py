"""Work that is done once: a command of a table or of the flywheel is a cell, kept under a hash of what decides it."""
