"""From Stripe to one object: the window of a run, its rows, the object."""
