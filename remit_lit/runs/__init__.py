"""What a run leaves on disk: its folder, its checkpoints, where its numbers come from, and how it goes on."""
