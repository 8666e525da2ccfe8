"""Checkpoints that can be trusted: directories written aside and renamed, with sizes and checksums of their files."""
