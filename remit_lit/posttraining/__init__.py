"""Post-training by TRL: supervised fine-tuning (SFT), preferences (DPO) and verifiable rewards (RLVR).

A stage takes a Hugging Face directory and gives one, so the kit can make the references that it mid-trains with.
"""
