"""What is known of events, videos and users, and the questions put to a recommender."""
