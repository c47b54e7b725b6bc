"""The shape of the source tree: imports point down only, light layers stay light, and no habit that the project rules out."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "videochat_r1"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Low to high. Parts of one row may not import each other; a part may import itself and every row above its own.
LAYERS = (
    {"errors"},
    {"text", "shipped"},
    {"options", "outputs"},
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
    {"rollout"},
    {"recipe_file"},
    {"recipe"},
    {"training"},
    {"grpo"},
    {"sft", "clue_perception"},
    {"evaluation"},
    {"quickstart", "doctor"},
    {"commands"},
    {"cli"},
)
HEIGHT = {part: height for height, layer in enumerate(LAYERS) for part in layer}
TORCH_FREE = [part for part, height in HEIGHT.items() if height < HEIGHT["video"]]
HEAVY = {"torch", "torchvision", "transformers", "trl", "accelerate", "deepspeed", "peft", "vllm"}


def part_of(path: Path) -> str:
    """`videochat_r1/grpo/trainer.py` -> `grpo`; the package's own `__init__` -> ``."""
    relative = path.relative_to(PACKAGE)
    name = relative.parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute in this project"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    ).stdout
    if not listing:
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_every_part_has_its_layer() -> None:
    unknown = {part_of(path) for path in MODULES} - set(HEIGHT) - {""}
    assert not unknown, f"add {unknown} to LAYERS in {Path(__file__).name}, above all that it imports"


@pytest.mark.parametrize("part", sorted({part_of(path) for path in MODULES} & set(HEIGHT)))
def test_imports_point_downwards(part: str) -> None:
    upward = []
    for path in MODULES:
        if part_of(path) != part:
            continue
        for line, name in imported_modules(parsed(path)):
            target = name.removeprefix("videochat_r1.").split(".")[0]
            inside = name.startswith("videochat_r1.") and target in HEIGHT and target != part
            if inside and HEIGHT[target] >= HEIGHT[part]:
                upward.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not upward, upward


def test_layers_below_video_name_no_heavy_library() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        if part_of(path) in TORCH_FREE
        for line, name in imported_modules(parsed(path))
        if name.split(".")[0] in HEAVY
    ]
    assert not found, found


def test_layers_below_video_start_without_torch() -> None:
    names = [part for part in TORCH_FREE if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()]
    code = "import importlib, sys\n" + "".join(f"importlib.import_module('videochat_r1.{name}')\n" for name in names)
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
            if part_of(path) not in {"cli", "commands"}:
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
