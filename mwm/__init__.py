"""mwm: train margin-watermarked classifiers, steal them, and measure which watermarks survive."""
