"""nextreel: a two-stage sequential recommender for short-video streams."""
