"""KDD Cup 99 as a test of rare-class models: the protocol, the simple models, the figures, the ablations."""
