"""Packages that programs may import: their files, their dependencies, and what stays hidden."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from distillpipe.base.errors import MissingDependencyError, UsageError
from distillpipe.base.requirements import install_command
from distillpipe.verify.code.kinds import Call, CallTests, InputTests
from distillpipe.verify.code.packages import Packages, find_packages, versions_of
from distillpipe.verify.code.sandbox import Limits, Sandbox, find_sandbox
from distillpipe.verify.code.verifier import judge_code, missing_modules


def install(site: Path, name: str, files: dict[str, str], requires: tuple[str, ...] = ()) -> None:
    """Write the files and the RECORD of a package, as an installer does."""
    info = f"{name.replace('-', '_')}-1.2.dist-info"
    lines = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{lines}",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD", "../../bin/script"])
    for path, text in {**files, f"{info}/RECORD": record}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of test packages on `sys.path`."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    install(folder, "One-Thing", {"thing/__init__.py": "import needed\nVALUE = needed.VALUE\n"}, (
        "needed>=1", "extra-thing; extra == 'all'", "for-windows; sys_platform == 'win32'"))  # fmt: skip
    install(folder, "needed", {"needed.py": "VALUE = 7\n", "needed_data/x.txt": "x"})
    install(
        folder,
        "shared-one",
        {"space/one/__init__.py": "VALUE = 1\n", "space/flat.py": "VALUE = 2\n"},
    )
    install(folder, "shared-two", {"space/two/__init__.py": "VALUE = 3\n"})
    install(folder, "broken", {"broken/__init__.py": "import missing_thing\n"})
    install(folder, "lacking", {"lacking.py": ""}, ("not-here",))
    install(folder, "editable", {"__editable__.editable.pth": "/somewhere"})
    find_packages.cache_clear()
    yield folder
    find_packages.cache_clear()


def targets(names: tuple[str, ...]) -> set[str]:
    return {target for _, target in find_packages(names).paths if ".dist-info" not in target}


def test_a_package_comes_with_what_it_needs(site: Path) -> None:
    packages = find_packages(("one_thing",))

    assert packages.versions == (("needed", "1.2"), ("one-thing", "1.2"))
    assert packages.modules == ("thing",)
    assert targets(("one_thing",)) == {"thing", "needed.py", "needed_data/x.txt"}
    assert all(Path(source).is_relative_to(site) for source, _ in packages.paths)
    assert versions_of(["one_thing"]) == dict(packages.versions)
    assert find_packages(()) == Packages()


def test_of_a_shared_folder_only_its_own_is_shown(site: Path) -> None:
    assert targets(("shared-one",)) == {"space/one", "space/flat.py"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nothing-known",
            f"'nothing-known' is not installed here: {install_command('nothing-known')}",
        ),
        ("lacking", "'not-here', which lacking needs, is not installed here"),
        ("thing", "thing is a module of the package One-Thing: --code-packages One-Thing"),
        ("editable", "editable is not installed as files"),
        ("../etc", "is not installed here"),
        ("", "is not installed here"),
    ],
)
def test_a_package_that_is_not_there_is_said(site: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match="--code-packages") as error:
        find_packages((name,))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy as np", ["numpy"]),
        ("    from numpy.linalg import norm", ["numpy"]),
        ("import os, sympy", ["sympy"]),
        ("numpy = 1\n# import of numpy", []),
        ("", []),
    ],
)
def test_imports_are_seen_in_the_source(source: str, modules: list[str]) -> None:
    assert Packages(modules=("numpy", "sympy")).imported_by(source) == modules


# ---------------------------------------------------------------- in the sandbox


def sandbox_with(*names: str, unsafe: bool = False) -> Sandbox:
    try:
        return find_sandbox(Limits(memory_bytes=1 << 30), unsafe=unsafe, code_packages=names)
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("unsafe", [False, True])
def test_programs_import_what_was_asked_for(site: Path, unsafe: bool) -> None:
    sandbox = sandbox_with("one-thing", "shared-one", unsafe=unsafe)
    source = (
        "import thing, space.one, space.flat, importlib.util\n"
        "hidden = [name for name in ('space.two', 'broken', 'pytest', 'numpy', 'distillpipe')"
        " if importlib.util.find_spec(name)]\n"
        "def f():\n    return thing.VALUE, space.one.VALUE, space.flat.VALUE, hidden\n"
    )

    tests = CallTests("f", (Call((), {}, (7, 1, 2, [])),))
    assert judge_code(source, tests, sandbox=sandbox).summary == "all_tests_passed"
    script = InputTests((("", "(7, 1, 2, [])"),) * 2)
    assert judge_code(f"{source}print(f())", script, sandbox=sandbox).summary == "all_tests_passed"


def test_packages_cannot_be_written_to(site: Path) -> None:
    sandbox = sandbox_with("one-thing")
    source = (
        "import thing, os\ndef f():\n    try:\n        open(thing.__file__, 'a')\n"
        "    except OSError:\n        return sorted(name for name in os.listdir('/packages') if '.' not in name)\n"
    )
    tests = CallTests("f", (Call((), {}, ["needed_data", "thing"]),))

    assert judge_code(source, tests, sandbox=sandbox).summary == "all_tests_passed"


def test_a_package_that_does_not_work_inside_is_said(site: Path) -> None:
    sandbox_with()
    with pytest.raises(UsageError, match=r"cannot import broken.*missing_thing"):
        find_sandbox(code_packages=("broken",))


def test_a_missing_module_has_a_name_of_its_own() -> None:
    sandbox = sandbox_with()
    call = CallTests("f", (Call((), {}, 7),))
    script = InputTests((("", "7"),))
    caught = "try:\n    import numpy\nexcept ImportError:\n    pass\nprint(7)"

    reasons = [
        judge_code("import numpy\ndef f(): return 7", call, sandbox=sandbox).summary,
        judge_code("def f():\n    import scipy.linalg", call, sandbox=sandbox).summary,
        judge_code("import numpy as np\nprint(7)", script, sandbox=sandbox).summary,
        judge_code("1 / 0", script, sandbox=sandbox).summary,
    ]
    assert reasons[0] == "missing_module: test 1: ModuleNotFoundError: No module named 'numpy'"
    assert judge_code(caught, script, sandbox=sandbox).verdict == "correct"
    (line,) = missing_modules([*reasons, None, "no_answer"])
    assert "3 programs import a module that the sandbox does not have (numpy 2, scipy 1)" in line
    assert missing_modules(["all_tests_passed"]) == []


NUMPY = """
import os, threading, numpy as np
def f(kind):
    if kind == "threads":
        a = np.random.rand(400, 400)
        a @ a
        return [os.environ["OMP_NUM_THREADS"], threading.active_count()]
    return eval(kind, {"np": np})
"""


def test_results_of_numpy_are_the_numbers_that_they_equal() -> None:
    if importlib.util.find_spec("numpy") is None:
        pytest.skip("numpy is not installed")
    sandbox = sandbox_with("numpy")
    cases: list[tuple[str, object]] = [
        ("np.int64(6)", 6), ("np.float64(0.5)", 0.5), ("np.float32(0.5)", 0.5), ("np.bool_(True)", True),
        ("[np.int8(1), (np.uint64(2 ** 63),)]", [1, (2**63,)]), ("{np.int64(1): np.str_('a')}", {1: "a"}),
        ("np.int64(6) / 4", 1.5), ("{np.int64(3)}", {3}), ("np.array([1, 2]).tolist()", [1, 2]),
        ("threads", ["1", 1]),
    ]  # fmt: skip
    tests = CallTests("f", tuple(Call((kind,), {}, value) for kind, value in cases))

    assert judge_code(NUMPY, tests, sandbox=sandbox).summary == "all_tests_passed"
    wrong = CallTests("f", (Call(("np.array([1, 2])",), {}, [1, 2]),))
    assert judge_code(NUMPY, wrong, sandbox=sandbox).reason == "raised"
    script = "import numpy\nprint(int(numpy.int64(input())) + 1)"
    tests_of_it = InputTests(tuple((f"{number}", f"{number + 1}") for number in range(5)))
    assert judge_code(script, tests_of_it, sandbox=sandbox).summary == "all_tests_passed"


def test_versions_are_those_of_this_environment() -> None:
    assert versions_of(["numpy"])["numpy"] == importlib.metadata.version("numpy")
