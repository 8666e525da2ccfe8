"""The loop: mid-training, post-training, and the RL-tuned model as the next reference (the paper's ReMiT^2)."""
