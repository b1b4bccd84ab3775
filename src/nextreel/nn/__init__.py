"""What neural models share: batches, blocks, losses, the trainer, and the recommender around a network."""
