"""Tests of whole studies with a real Ray and a real store, and with faults caused on purpose."""
