"""The shape of the source tree: imports point down only, light layers stay light, and no habit that the project rules out."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "videochat_r1"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROGRAMS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
TRAINER = PACKAGE / "grpo" / "trainer.py"
MAX_LINES, MAX_TRAINER_LINES = 400, 530

# Low to high. Parts of one row may not import each other; a part may import itself and every row above its own.
LAYERS = (
    {"errors"},
    {"text", "shipped"},
    {"options", "outputs", "json_rows"},
    {"provenance", "progress", "file_lock", "named"},
    {"geometry"},
    {"sample"},
    {"parsing"},
    {"judge"},
    {"tasks"},
    {"rewards"},
    {"scoring"},
    {"datasets"},
    {"testing"},
    {"video"},
    {"modeling"},
    {"second_look"},
    {"rollout"},
    {"recipe_file"},
    {"recipe"},
    {"training"},
    {"grpo"},
    {"sft"},
    {"evaluation"},
    {"window"},
    {"chat"},
    {"quickstart", "doctor", "selection"},
    {"commands"},
    {"cli"},
)
ROOMS = (
    {"metrics"},
    {"benchmarks"},
    {"baselines", "reports"},
    {"scoring"},
    {"answering"},
    {"running"},
)
"""The same, of the rooms of `evaluation`."""


def heights(layers: tuple[set[str], ...]) -> dict[str, int]:
    return {part: height for height, layer in enumerate(layers) for part in layer}


HEIGHTS = {"videochat_r1": heights(LAYERS), "videochat_r1.evaluation": heights(ROOMS)}
TORCH_FREE = [part for part, height in HEIGHTS["videochat_r1"].items() if height < HEIGHTS["videochat_r1"]["video"]]
TORCH_FREE += [
    f"evaluation.{room}"
    for room, height in HEIGHTS["videochat_r1.evaluation"].items()
    if height < HEIGHTS["videochat_r1.evaluation"]["answering"]
]
HEAVY = {"torch", "torchvision", "transformers", "trl", "accelerate", "deepspeed", "peft", "vllm"}


def name_of(path: Path) -> str:
    """`videochat_r1/grpo/__init__.py` -> `videochat_r1.grpo`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(name: str, whole: str) -> str:
    """Of a module in a package: `videochat_r1.grpo.trainer` in `videochat_r1` -> `grpo`; empty for what is no part of it."""
    return name.removeprefix(f"{whole}.").split(".")[0] if name.startswith(f"{whole}.") else ""


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute in this project"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def modules_run(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Those of `names` that are imported: `from a import b` means the module `a.b` where there is one, else `a`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module in names:
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in names else node.module for name in full)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


PARTS = {whole: {part_of(name_of(path), whole) for path in MODULES} - {""} for whole in HEIGHTS}


def torch_free_modules() -> list[Path]:
    return [
        path for path in MODULES if any(f"{name_of(path)}.".startswith(f"videochat_r1.{part}.") for part in TORCH_FREE)
    ]


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    ).stdout
    if not listing:
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("whole", HEIGHTS)
def test_every_part_has_its_layer(whole: str) -> None:
    unknown = PARTS[whole] - set(HEIGHTS[whole])
    assert not unknown, f"add {unknown} to {Path(__file__).name}, above all that it imports"
    gone = set(HEIGHTS[whole]) - PARTS[whole]
    assert not gone, f"{whole} has no {gone} any more"


@pytest.mark.parametrize("whole, part", [(whole, part) for whole in HEIGHTS for part in sorted(PARTS[whole])])
def test_imports_point_downwards(whole: str, part: str) -> None:
    height = HEIGHTS[whole]
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        if part_of(name_of(path), whole) == part
        for line, name in imported_modules(parsed(path))
        if (target := part_of(name, whole)) in height and target != part and height[target] >= height[part]
    ]
    assert not upward, upward


def test_no_module_imports_itself_in_a_circle() -> None:
    names = {name_of(path) for path in MODULES}
    imports = {name_of(path): set(modules_run(parsed(path), names)) for path in MODULES}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_files_stay_small_enough_to_be_read() -> None:
    most = {path: MAX_LINES for path in [*MODULES, *PROGRAMS]} | {TRAINER: MAX_TRAINER_LINES}
    lines = {path: len(path.read_text().splitlines()) for path in most}
    long = [
        f"{path.relative_to(ROOT)}: {lines[path]} of {most[path]} lines" for path in most if lines[path] > most[path]
    ]
    assert not long, f"split where a reader would look for a part: {long}"


def test_only_the_families_know_a_family() -> None:
    """Elsewhere stands neither a family's name nor a field of its config alone, nor the pixels of its token's side."""
    theirs = {
        "qwen2_vl",
        "qwen2_5_vl",
        "qwen3_vl",
        "tokens_per_second",
        "fullatt_block_indexes",
        "deepstack_visual_indexes",
        28,
    }
    nodes = [
        (path, node)
        for path in MODULES
        if path.parent.name != "families"
        for parent in ast.walk(parsed(path))
        if not isinstance(parent, ast.Tuple)  # a colour may have a part of 28
        for node in ast.iter_child_nodes(parent)
    ]
    words = [(path, node, node.value) for path, node in nodes if isinstance(node, ast.Constant)]
    words += [(path, node, node.attr) for path, node in nodes if isinstance(node, ast.Attribute)]
    found = [f"{path.relative_to(ROOT)}:{node.lineno} knows {word}" for path, node, word in words if word in theirs]
    assert not found, found


def test_torch_free_parts_name_no_heavy_library() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in torch_free_modules()
        for line, name in imported_modules(parsed(path))
        if name.split(".")[0] in HEAVY
    ]
    assert not found, found


def test_torch_free_parts_start_without_torch() -> None:
    code = "import importlib, sys\n"
    code += "".join(f"importlib.import_module('{name_of(path)}')\n" for path in torch_free_modules())
    code += "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_the_house_rules(path: Path) -> None:
    tree = parsed(path)
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}, "name a module after its one job"
    assert "nothink" not in path.stem, "thinking is one boolean of the prompt, not a copy of a module"
    doc = ast.get_docstring(tree)
    assert doc or not path.read_text().strip(), "the first line says what the module is for"
    for node in ast.walk(tree):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {item.id for item in caught if isinstance(item, ast.Name)}
            assert node.type is not None and not names & {"Exception", "BaseException"}, f"{where}: broad except"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{where}: {node.func.id} of data"
            if part_of(name_of(path), "videochat_r1") not in {"cli", "commands"}:
                assert node.func.id != "print", f"{where}: the library logs, only the console command prints"
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            assert not imported & {"pickle", "dill", "cloudpickle", "shelve"}, f"{where}: no pickled data"


def test_tracked_files_name_no_machine_and_no_download_address() -> None:
    # Spelled in pieces, so that this file does not match itself.
    machine = re.compile(r"(?<![\w.])/(?:" + "|".join(["work", "root", "home", "tmp"]) + r")/[\w.]")
    address = re.compile("http" + r"s?://(?!127\.0\.0\.1|www\.w3\.org/)[\w-]+\.\w\w")
    registry = re.compile("|".join(["py" + r"pi\.org", "python" + "hosted", "download" + r"\.pytorch"]))
    found = []
    for path in tracked_files():
        if path.name == "LICENSE" or path.suffix in {".png", ".mp4", ".safetensors"}:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            for pattern in (machine, address, registry):
                if match := pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()!r}")
    assert not found, found


def test_no_folder_of_this_package_is_ignored_by_git() -> None:
    """A rule such as `data/` in .gitignore must not swallow source files."""
    names = [str(path.relative_to(ROOT)) for path in [*MODULES, *sorted((ROOT / "configs").rglob("*.yaml"))]]
    result = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", *names], capture_output=True, text=True, check=False
    )
    assert result.stdout == ""
