"""What Keras's layers become: a function for each class, which adds layers to the graph."""
