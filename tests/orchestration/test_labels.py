"""Version labels as the lifecycle and the command take them."""

import click
import pytest

from orchestration.cli.version_label import VersionLabel
from orchestration.labels import Label, LabelError
from serving_config.schema import Model

NONE = ["3-fp32", "3-int4", "x", "", "0", "03", "-int8", "3-", "3-int8-int8", "³"]


@pytest.mark.parametrize("text", ["3", "3-int8"])
def test_a_label_is_one_name_for_a_version_and_its_variant(text: str) -> None:
    label = Label.parse(text)
    assert (label.number, str(label)) == (3, text)
    assert label.is_variant is (text == "3-int8")


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_label_is_an_explained_error_in_dagster_and_on_the_command_line(
    text: str,
) -> None:
    with pytest.raises(LabelError, match="write 3, or 3-int8"):
        Label.parse(text)
    with pytest.raises(click.BadParameter, match="write 3, or 3-int8"):
        VersionLabel().convert(text, None, None)


def test_the_command_line_takes_a_v_in_front() -> None:
    assert VersionLabel().convert("v3-int8", None, None) == "3-int8"


def test_a_variant_that_the_settings_do_not_name_is_not_built_and_the_fix_is_told() -> None:
    both = Model(name="iris", variants=("fp32", "int8"))
    assert Label.configured("3-int8", both) == Label(3, "int8")
    with pytest.raises(LabelError, match=r"write variants: \[fp32, int8\]"):
        Label.configured("3-int8", Model(name="iris"))


def test_a_variant_has_tags_and_files_of_its_own_on_the_version_in_mlflow() -> None:
    assert Label(3).tags(bento="a:1") == {"slipway.bento": "a:1"}
    assert Label(3, "int8").tags(bento="a:1") == {"slipway.int8.bento": "a:1"}
    assert (Label(3).folder, Label(3, "int8").folder) == ("", "int8")
