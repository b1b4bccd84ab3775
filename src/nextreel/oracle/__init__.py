"""What only a simulator knows, put to the questions of the models: ceilings, and what every list is truly worth."""
