"""How forward passes are computed: the whole every time, or the frozen part once."""
