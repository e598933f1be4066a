"""What is attacked: members, Keras models, ensembles, and the checkpoints that they come from."""

#: How members' outputs become a class: the argmax of the mean of their logits, or of the mean of
#: their softmax, or the class of most members (docs/original.md, Combination rule).
DECISION_RULES = ("mean_logits", "mean_probs", "vote")
