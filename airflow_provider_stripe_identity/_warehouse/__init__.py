"""Loading: from objects that the exports wrote to one table of a warehouse."""
