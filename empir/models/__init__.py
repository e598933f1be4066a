"""What is attacked: members, Keras models, ensembles, and the checkpoints that they come from."""
