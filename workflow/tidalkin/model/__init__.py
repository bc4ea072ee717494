"""The SimSiam network, its views, its training and its checkpoint."""
