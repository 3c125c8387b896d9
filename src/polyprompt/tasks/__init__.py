"""What is to be learnt: task cards and layouts."""
