"""ScarceGAN for extremely rare classes: features, training, evaluation, registration, serving, monitoring."""
