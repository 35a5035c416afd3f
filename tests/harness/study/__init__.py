"""Tests of whole studies: on a real Ray and a real store, and with faults caused on purpose."""
