"""Videos and labels: what is read from disk. Knows no model and no reward.

`video` samples frames, `dataset` reads label files, `prepare` inspects a data set before a run. Import the
module you need: decord, PyAV and datasets are loaded only by those that use them.
"""
