"""A made-up short-video app with a known truth: its laws, the generator, the files."""
