"""The two-stage system: the channels' lists fused into a pool, the pool in the ranker's order, recommendations."""
