"""KDD Cup 99 as a test of rare-class models: the protocol, the baselines, the figures, the ablations."""
