"""The same vectors and traces from engines for many machines: Ray Data, datatrove."""
