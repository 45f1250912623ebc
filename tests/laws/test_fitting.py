import json

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import data_law, fit, joint_law, size_law

from .conftest import SIZES, TRUTH


def test_recovers_a_law_without_noise(law, ladder):
    fitted = fit(law, ladder(between=0, within=0))
    np.testing.assert_allclose(fitted.vector, TRUTH, rtol=1e-6)
    assert fitted.status == "converged"
    assert fitted.r2 == pytest.approx(1)


@pytest.mark.parametrize("scale", ["value", "gap"])
def test_recovers_a_falling_law_on_either_scale(ladder, scale):
    falling = joint_law(rising=False)
    fitted = fit(falling, ladder(between=0, within=0, law=falling), scale=scale)
    np.testing.assert_allclose(fitted.vector, TRUTH, rtol=1e-6)


def test_recovers_laws_of_one_axis(ladder):
    size, data = size_law(True), data_law(True)
    table = ladder(between=0, within=0, law=size, truth=TRUTH[:3])
    np.testing.assert_allclose(fit(size, table).vector, TRUTH[:3], rtol=1e-6)
    table = ladder(between=0, within=0, law=data, truth=TRUTH[[0, 3, 4]])
    np.testing.assert_allclose(fit(data, table).vector, TRUTH[[0, 3, 4]], rtol=1e-6)


def test_noisy_fits_are_right_on_average(law, ladder):
    at = 4.4e5, 1.6e5
    errors = [fit(law, ladder(seed)).predict(*at)[0] - law.predict(TRUTH, *at)[0] for seed in range(60)]
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors))


def test_one_spoiled_measurement_hardly_moves_the_fit(law, ladder):
    clean = ladder()
    spoiled = clean.assign(value=clean["value"].where(clean.index != 40, 0.05))
    assert fit(law, spoiled).predict(1e5, 1e5)[0] == pytest.approx(fit(law, clean).predict(1e5, 1e5)[0], abs=2e-3)


def test_status_says_what_the_ladder_cannot_tell(law, ladder):
    assert fit(law, ladder(sizes=SIZES[:2])).status == "unidentified: 2 distinct sizes, 3 needed"
    table = ladder()
    last = table[table["exposure"] == table["exposure"].max()]
    assert fit(law, last).status == "unidentified: 1 distinct exposures, 3 needed"
    assert fit(size_law(True), last).status == "converged"


def test_status_names_the_coefficient_at_its_bound(ladder):
    low_ceiling = joint_law(rising=True, limits=(0.0, 0.4))  # the true asymptote is 0.45
    fitted = fit(low_ceiling, ladder(between=0, within=0))
    assert fitted.status.startswith("at a bound: asymptote")
    assert fitted.coefficients["asymptote"] == pytest.approx(0.4, abs=1e-3)


def test_hash_follows_the_data_and_not_its_order(law, ladder):
    table = ladder()
    shuffled = table.sample(frac=1, random_state=0)
    changed = table.assign(value=table["value"].where(table.index > 0, table["value"] + 1e-15))
    assert fit(law, shuffled).data_sha256 == fit(law, table).data_sha256 != fit(law, changed).data_sha256


def test_fit_as_json_keeps_full_precision(ladder):
    falling = joint_law(rising=False)
    fitted = fit(falling, ladder(law=falling))
    record = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    assert record["coefficients"] == fitted.coefficients
    assert (record["runs"], record["rows"], record["limits"]) == (12, 72, [0.0, None])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.drop(columns="exposure"), "column 'exposure' is missing"),
        (lambda t: t.assign(value=np.nan), "value is nan in run '4000-0'"),
        (lambda t: t.assign(params_non_embedding=-5.0), "params_non_embedding is -5.0 .* positive number"),
        (lambda t: t.assign(exposure="many"), "exposure is many"),
        (lambda t: t.assign(run=None), "run is empty"),
        (lambda t: t.assign(run="0"), "run '0' has 4 sizes"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "has exposure 5000 twice"),
    ],
)
def test_bad_measurements_get_one_sentence(law, ladder, spoil, message):
    with pytest.raises(ValueError, match=message):
        fit(law, spoil(ladder()))


def test_bad_settings_get_one_sentence(law, ladder):
    with pytest.raises(ValueError, match="scale is 'raw'"):
        fit(law, ladder(), scale="raw")
    with pytest.raises(ValueError, match="noise is 0"):
        fit(law, ladder(), noise=0)
