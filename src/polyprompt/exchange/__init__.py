"""Takes prompts to other programs and back: PEFT, plain checkpoints, embeddings, the Hub."""
