"""What is learnt from predictions, without torch."""
