"""Pure functions of ranks, of what was shown, of lists. Training imports `ranks` alone."""
