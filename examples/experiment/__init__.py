"""What the experiments in examples/ and benchmarks/ share: data, training, figures and tables."""
