"""The scripts that made the packaged backbone and pictures; see ship/pocket/NOTICE.

They need the extra `pocket` and run from a checkout: they are no part of the wheel.
"""
