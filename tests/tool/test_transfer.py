"""Arrays on their way to the device: when they may be changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stnls_cli.transfer import Uploads

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_on_the_cpu_contiguous_arrays_are_taken_as_they_are() -> None:
    uploads = Uploads(torch.device("cpu"))
    array = ARRAY.copy()
    whole = uploads.put(array).here()
    turned = uploads.put(array.T).here()
    array += 1
    np.testing.assert_array_equal(whole.numpy(), ARRAY + 1)
    np.testing.assert_array_equal(turned.numpy(), ARRAY.T)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_they_may_be_changed_at_once() -> None:
    array = ARRAY.copy()
    arriving = Uploads(torch.device("cuda:0")).put(array)
    array += 1
    np.testing.assert_array_equal(arriving.here().cpu().numpy(), ARRAY)
