"""Live models of a framework run beside the models that were made of them."""
