"""What can be chosen about a quickstart run, and where its files go."""

from dataclasses import dataclass
from pathlib import Path

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import DEFAULT_FAMILY
from videochat_r1.shipped import ROOT

CONFIGS = ROOT / "configs" / "quickstart"
STARTS = ROOT / "data" / "quickstart"

# One update of GRPO takes 32 prompts, each of which has to be another one.
_LEAST_TRAIN = 32


@dataclass(frozen=True, slots=True)
class QuickstartOptions:
    """The choices.

    Args:
        output: folder of the run.
        family: of the tiny model; there are recipes and a start for each of `families()`.
        from_scratch: train the SFT start too, instead of taking the shipped one.
        compare: also continue SFT for as long as GRPO took, and ask about longer videos.
        seed: of training; the corpus is always the same.
        num_train: training videos of each kind.
        num_eval: held-out videos of each kind: so many samples per task.
        grpo_flags: overrides of the GRPO recipe, as on a command line.
        sft_flags: overrides of both SFT recipes.
        overwrite: replace the results of a finished run.
        start: model to begin GRPO with, instead of the shipped one.
        recipes: folder of the recipes.
    """

    output: Path = Path("outputs/quickstart")
    family: str = DEFAULT_FAMILY
    from_scratch: bool = False
    compare: bool = False
    seed: int = 0
    num_train: int = 2000
    num_eval: int = 512
    grpo_flags: tuple[str, ...] = ()
    sft_flags: tuple[str, ...] = ()
    start: Path | None = None
    overwrite: bool = False
    recipes: Path = CONFIGS

    def __post_init__(self) -> None:
        if self.family not in families():
            raise ConfigError(f"the quickstart has no recipes for {self.family!r}, only for {', '.join(families())}")
        if self.num_train < _LEAST_TRAIN or self.num_eval < 2:
            raise ConfigError(
                f"the quickstart needs at least {_LEAST_TRAIN} training and 2 held-out videos of each kind, "
                f"got {self.num_train} and {self.num_eval}"
            )
        if self.from_scratch and self.start is not None:
            raise ConfigError("--from-scratch makes the start itself: leave --start out")

    def recipe(self, name: str) -> Path:
        """The file of one of the quickstart's recipes: grpo, sft_questions or sft_joint."""
        return self.recipes / f"{name}{_suffix(self.family)}.yaml"

    @property
    def shipped_start(self) -> Path:
        """The model that GRPO begins with unless another one is asked for."""
        return STARTS / f"sft{_suffix(self.family)}"

    @property
    def data(self) -> Path:
        """The corpus."""
        return self.output / "data"

    @property
    def checkpoints(self) -> Path:
        """Models: init, sft, grpo, sft_continued."""
        return self.output / "checkpoints"


def families() -> tuple[str, ...]:
    """The model families that the quickstart has recipes for, the default one first."""
    others = [path.stem.removeprefix("grpo_") for path in CONFIGS.glob("grpo_*.yaml")]
    return DEFAULT_FAMILY, *sorted(others)


def _suffix(family: str) -> str:
    return "" if family == DEFAULT_FAMILY else f"_{family}"
