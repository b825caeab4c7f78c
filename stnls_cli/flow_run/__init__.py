"""The job of `stnls flow`: optical flow between the neighbouring frames of a clip, as files."""
