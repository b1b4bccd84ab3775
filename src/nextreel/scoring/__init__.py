"""Cases put to a fitted model: what is asked, how it is ordered, what is written."""
