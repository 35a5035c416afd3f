"""Tests that matter on a CUDA GPU. Each also runs on the CPU, so that its own code stays right."""
