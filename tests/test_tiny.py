"""The small model's first layer sees fine detail."""

import numpy as np
import pytest
from scipy.fft import dctn

from vqathinker.checkpoints.tiny import frequency_filters


@pytest.mark.parametrize(("num_filters", "size"), [(64, 14), (256, 14), (32, 14)])
def test_filters_are_one_frequency_each_and_grow_with_it(num_filters: int, size: int) -> None:
    filters = frequency_filters(num_filters, size).double().numpy()
    assert filters.shape == (num_filters, 3, size, size)
    assert (filters == filters[:, :1]).all()  # grey
    spectra = np.abs(dctn(filters[:, 0], axes=(1, 2), norm="ortho")).reshape(num_filters, -1)
    places = spectra.argmax(axis=1)
    np.testing.assert_allclose(spectra.sum(axis=1), spectra.max(axis=1), rtol=1e-4)
    assert len(set(places)) == min(num_filters, size**2)
    largest = np.abs(filters).max(axis=(1, 2, 3))
    assert largest[-1] > 10 * largest[0]  # sorted by frequency, the finest last
