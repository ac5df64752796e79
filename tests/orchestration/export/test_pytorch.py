"""PyTorch modules as users log them: what is served, and what is refused with what to do."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.model_server.certificate import Limits
from bentos.model_server.session import ModelSession
from orchestration.export import NativeModel, UnservableModel, export, load_native
from orchestration.export.native_pytorch import Meaning, TorchModel, read_meaning
from orchestration.export.pt2 import read_program
from orchestration.export.signature import Field, Signature
from orchestration.verify import verify
from serving_config.schema import Model

torch = pytest.importorskip("torch")
nn = torch.nn

BINARY = Meaning("classification", ("no", "yes"))
REGRESSION = Meaning("regression")


class Forward(nn.Module):
    """A module whose forward is a function of itself and its input."""

    def __init__(self, function: Callable[..., Any], width: int = 3, columns: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(width, columns)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def probability(self: Any, x: Any) -> Any:
    return torch.sigmoid(self.layer(x))


def exported_program(
    module: Any, example: Any = None, shapes: Any = ({0: torch.export.Dim.AUTO},)
) -> Any:
    example = torch.zeros(2, 3) if example is None else example
    return torch.export.export(module.eval(), (example,), dynamic_shapes=shapes)


def as_native(
    module: Any, meaning: Meaning, example: Any = None, fields: Sequence[Field] | None = None
) -> NativeModel:
    model = TorchModel(exported_program(module, example), meaning)
    named = fields or [Field(f"x{i}", "float64") for i in range(model.width)]
    return NativeModel("pytorch", model, Signature(tuple(named), tensor=fields is None))


def parity(native: NativeModel) -> ModelSession:
    """The session of the exported graph, which was proved."""
    exported = export(native, Model(name="m"), 1)
    session = ModelSession(exported.model, exported.contract)
    certificate = verify(native, session, None, Limits())
    assert certificate.parity.passed, certificate.parity
    return session


class TestServed:
    def test_one_sigmoid_column_is_the_probability_of_the_second_label(self) -> None:
        module = Forward(probability)
        session = parity(as_native(module, BINARY))
        row = [0.3, -2.0, 1.0]
        expected = float(module(torch.tensor([row])).detach()[0, 0])
        answer = session.predict([row])
        assert answer.probabilities is not None
        assert answer.probabilities[0, 1] == pytest.approx(expected, abs=1e-6)
        assert answer.labels == ["yes" if expected > 0.5 else "no"]

    def test_a_squeezed_column_is_one_as_well(self) -> None:
        module = Forward(lambda self, x: probability(self, x).squeeze(1))
        assert parity(as_native(module, BINARY)).predict([[1.0, 2.0, 3.0]]).labels

    def test_integer_labels_of_several_columns(self) -> None:
        module = Forward(lambda self, x: torch.softmax(self.layer(x), 1), columns=3)
        session = parity(as_native(module, Meaning("classification", (10, 20, 30))))
        assert session.predict([[5.0, -5.0, 0.0]]).labels[0] in (10, 20, 30)

    def test_a_regression_in_float64_keeps_its_digits(self) -> None:
        module = Forward(lambda self, x: self.layer(x)).double()
        native = as_native(module, REGRESSION, torch.zeros(2, 3, dtype=torch.float64))
        row = [1e-9 + 1.0, 2.0, 3.0]
        expected = native.predict([row]).labels[0]
        assert parity(native).predict([row]).labels[0] == pytest.approx(expected, rel=1e-14)

    def test_an_integer_input_is_looked_up_in_an_embedding(self) -> None:
        class Embedded(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(1)
                self.table, self.layer = nn.Embedding(5, 4), nn.Linear(8, 1)

            def forward(self, x: Any) -> Any:
                return torch.sigmoid(self.layer(self.table(x.clamp(0, 4)).flatten(1)))

        fields = [Field("region", "int64"), Field("month", "int64")]
        native = as_native(Embedded(), BINARY, torch.zeros(2, 2, dtype=torch.int64), fields)
        session = parity(native)
        assert session.predict([[1, 4]]).labels == native.predict([[1, 4]]).labels

    def test_a_missing_value_that_the_network_answers_with_nan_is_required(self) -> None:
        fields = [Field("a", "float64"), Field("b", "float64", False), Field("c", "float64", False)]
        imputing = Forward(
            lambda self, x: probability(
                self, torch.cat([x[:, :2], torch.nan_to_num(x[:, 2:], nan=1.0)], 1)
            )
        )
        exported = export(as_native(imputing, BINARY, fields=fields), Model(name="m"), 1)
        assert [field.required for field in exported.contract.inputs] == [True, True, False]


REFUSED: dict[str, tuple[Callable[[], Any], Meaning, str]] = {
    "logits": (lambda: Forward(lambda self, x: self.layer(x) * 9), BINARY, "end it with torch.sig"),
    "another number of columns": (
        lambda: Forward(lambda self, x: torch.softmax(self.layer(x), 1), columns=3),
        BINARY,
        r"answers with 3 column\(s\), its metadata states 2 labels",
    ),
    "a regression of two columns": (
        lambda: Forward(lambda self, x: self.layer(x), columns=2),
        REGRESSION,
        r"2 column\(s\), its metadata states a regression",
    ),
    "several outputs": (
        lambda: Forward(lambda self, x: (self.layer(x), x)),
        REGRESSION,
        "has 2 outputs; wrap",
    ),
    "an answer that depends on the batch": (
        lambda: Forward(lambda self, x: self.layer(x - x.mean(0))),
        REGRESSION,
        "depends on chance or on the other rows",
    ),
    "chance": (
        lambda: Forward(lambda self, x: self.layer(x) + torch.rand_like(x[:, :1])),
        REGRESSION,
        "depends on chance",
    ),
    "a number of rows that it asks for": (
        lambda: Forward(lambda self, x: self.layer(x) if x.shape[0] < 100 else -self.layer(x)),
        REGRESSION,
        "exported for batches of [02] to 99 rows",
    ),
    "a number of rows that is built in": (
        lambda: Forward(lambda self, x: self.layer(x) / len(x)),
        REGRESSION,
        r"batches of 2 row\(s\) alone",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_with_what_to_do(case: str) -> None:
    module, meaning, words = REFUSED[case]
    with pytest.raises(UnservableModel, match=words):
        as_native(module(), meaning)


def test_a_fixed_batch_is_refused_and_two_rows_are_the_fix() -> None:
    program = exported_program(Forward(probability), torch.zeros(1, 3))
    with pytest.raises(UnservableModel, match=r"batches of 1 row\(s\) alone.*array of 2 or more"):
        TorchModel(program, BINARY)


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    example = (torch.zeros(2, 1), torch.zeros(2, 1))
    program = torch.export.export(Two(), example, dynamic_shapes=({0: torch.export.Dim.AUTO},) * 2)
    with pytest.raises(UnservableModel, match="takes 2 inputs; wrap the module"):
        TorchModel(program, REGRESSION)


@pytest.mark.parametrize("layer", [nn.Dropout(0.1), nn.BatchNorm1d(3)])
def test_a_module_in_training_mode_is_refused(layer: Any) -> None:
    module = Forward(lambda self, x: self.layer(self.inner(x)))
    module.inner = layer
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(module.train(), (torch.zeros(2, 3),), dynamic_shapes=shapes)
    with pytest.raises(UnservableModel, match=r"training mode.*eval"):
        TorchModel(program, REGRESSION)


def test_another_number_of_columns_than_the_signature_is_refused() -> None:
    fields = [Field("a", "float64"), Field("b", "float64")]
    with pytest.raises(UnservableModel, match="takes 3 columns and gets 2"):
        export(as_native(Forward(probability), BINARY, fields=fields), Model(name="m"), 1)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"slipway": {"kind": "ranking"}},
        {"slipway": {"kind": "classification"}},
        {"slipway": {"kind": "classification", "labels": ["a", 1]}},
        {"slipway": {"kind": "classification", "labels": ["a", "a"]}},
    ],
)
def test_metadata_that_does_not_tell_the_answers_meaning_is_refused(metadata: Any) -> None:
    with pytest.raises(UnservableModel, match="log it again with metadata="):
        read_meaning(metadata)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.export.save(exported_program(Forward(probability)), path)
    return path


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save((value,), buffer)
    return buffer.getvalue()


def changed(archive: Path, folder: Path, ending: str, change: Callable[[bytes], bytes]) -> Path:
    """The archive with one file in it changed."""
    path = folder / "changed.pt2"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith(ending) else data)
    return path


def edited(edit: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        document = json.loads(data)
        edit(document)
        return json.dumps(document).encode()

    return change


def graph_edit(field: str, value: Any) -> Callable[[bytes], bytes]:
    """The first node's field set."""
    return edited(
        lambda document: document["graph_module"]["graph"]["nodes"][0].update({field: value})
    )


def first_symbol(document: Any) -> None:
    for tensor in document["graph_module"]["graph"]["tensor_values"].values():
        for size in tensor["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = "__import__('os').system('true')"


@pytest.mark.parametrize(
    ("ending", "change"),
    [
        ("models/model.json", graph_edit("target", "torch.hub.os.system")),
        ("models/model.json", graph_edit("target", "torch.ops.mylib.run.default")),
        ("models/model.json", graph_edit("name", "a); import os; os.system('true'")),
        ("models/model.json", edited(first_symbol)),
        (
            "weights_config.json",
            edited(lambda d: next(iter(d["config"].values())).update(use_pickle=True)),
        ),
    ],
)
def test_an_archive_that_would_run_code_is_refused(
    archive: Path, tmp_path: Path, ending: str, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(UnservableModel, match="run code when it is loaded"):
        read_program(changed(archive, tmp_path, ending, change))


def test_a_pickle_among_the_example_inputs_is_never_loaded(archive: Path, tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-pickle"
    harmful = pickled(Harmful(made))
    path = changed(archive, tmp_path, "sample_inputs/model.pt", lambda _: harmful)
    with pytest.raises(UnservableModel, match="run code"):
        read_program(path)
    assert not made.exists()


def test_python_source_in_the_archive_is_not_run(archive: Path, tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-guard"
    code = f"open({str(made)!r}, 'w') is not None"
    guarded = edited(lambda d: d.update(guards_code=[code]))
    program = read_program(changed(archive, tmp_path, "models/model.json", guarded))
    assert TorchModel(program, BINARY).predict(np.zeros((1, 3))).tolist()
    program.module()(torch.zeros(2, 3))
    assert not made.exists()


def test_a_broken_archive_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"no zip")
    with pytest.raises(UnservableModel, match="cannot be read"):
        read_program(path)


def mlflow_folder(folder: Path, extra: tuple[str, ...] = (), **model: Any) -> Path:
    files = [{"path": name} for name in extra]
    flavor = {"pytorch": {"model_data": "data", "extra_files": files}}
    (folder / "data").mkdir()
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavor, **model}))
    return folder


def test_a_pickled_module_is_refused_with_the_fix(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path)
    (folder / "data" / "model.pth").write_bytes(b"\x80\x02.")
    with pytest.raises(UnservableModel, match=r"pickle.*serialization_format='pt2'"):
        load_native(folder)


TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]


def test_a_signature_of_the_matrix_behind_the_preprocessing_is_refused(
    archive: Path, tmp_path: Path
) -> None:
    signature = {"inputs": json.dumps(TENSOR)}
    folder = mlflow_folder(tmp_path, ("preprocessing.skops",), signature=signature)
    (folder / "data" / "model.pt2").write_bytes(archive.read_bytes())
    with pytest.raises(UnservableModel, match=r"set_signature\(model_info\.model_uri"):
        load_native(folder)


def test_an_example_of_that_matrix_is_no_request(archive: Path, tmp_path: Path) -> None:
    import pandas as pd
    import skops.io
    from sklearn.preprocessing import StandardScaler

    table = pd.DataFrame({name: [1000.0, 2000.0, 3000.0] for name in ("a", "b", "c")})
    skops.io.dump(StandardScaler().fit(table), tmp_path / "preprocessing.skops")
    (tmp_path / "input_example.json").write_text(json.dumps({"data": [[-1.2, 0.0, 1.2]]}))
    columns = [{"type": "double", "name": name, "required": True} for name in table]
    folder = mlflow_folder(
        tmp_path,
        ("preprocessing.skops",),
        signature={"inputs": json.dumps(columns)},
        metadata={"slipway": {"kind": "classification", "labels": [0, 1]}},
        saved_input_example_info={"artifact_path": "input_example.json", "type": "ndarray"},
    )
    (folder / "data" / "model.pt2").write_bytes(archive.read_bytes())
    native = load_native(folder)
    assert native.example is None
    session = parity(native)
    answer = session.predict([[1500.0, 2500.0, 3000.0]])
    assert answer.labels == native.predict([[1500.0, 2500.0, 3000.0]]).labels


def test_without_torch_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnservableModel, match=r"needs torch.*uv pip install -e '\.\[torch\]'"):
        load_native(mlflow_folder(tmp_path))


def test_torch_is_imported_for_pytorch_models_alone() -> None:
    code = (
        "import sys, orchestration.definitions, orchestration.export.pytorch, "
        "orchestration.examples.churn_pytorch, orchestration.cli; "
        "from orchestration.export import export; "
        "print([name for name in ('torch', 'onnxscript') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert printed.split("\n")[-2] == "[]"
