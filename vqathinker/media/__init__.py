"""Pixels: what is read from video files. Knows no label, no model and no reward.

Import the module you need: decord and PyAV are loaded only by those that use them.
"""
