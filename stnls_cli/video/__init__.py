"""Video in and out: clips and folders of frames to RGB, frames to images and lossless video."""

from stnls_cli.video.clip import Clip, ClipInfo, Frame, clip_digest, open_clip
from stnls_cli.video.write import IMAGE_SUFFIX, VideoWriter, read_image, write_image

__all__ = [
    "IMAGE_SUFFIX",
    "Clip",
    "ClipInfo",
    "Frame",
    "VideoWriter",
    "clip_digest",
    "open_clip",
    "read_image",
    "write_image",
]
