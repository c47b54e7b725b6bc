"""One GRPO run from resolved arguments to the final model folder."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.bonuses import BonusOptions
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.group_rewards import GroupReward, group_rewards
from videochat_r1.grpo.tracked_rollouts import TracksRollouts
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.grpo.truth import check_truths
from videochat_r1.judge import Judge
from videochat_r1.modeling.load import load_processor
from videochat_r1.options import check_keys
from videochat_r1.recipe import DataArguments, ModelArguments
from videochat_r1.rewards import REWARDS, RewardFunction, make_reward, option_names
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS
from videochat_r1.training.card import ModelCard
from videochat_r1.training.console import use_console_log
from videochat_r1.training.run import check_videos, load_policy, prompt_builder, save_final
from videochat_r1.training.run_folder import run_folder
from videochat_r1.training.settings import run_settings
from videochat_r1.training.trackers import keep_wandb_local

logger = logging.getLogger(__name__)


def run_grpo(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: VideoGRPOConfig,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train, resuming from the newest complete checkpoint in `args.output_dir`, and return the final model folder. Of a
    finished run, only that is done.

    The folder loads with transformers' own `from_pretrained`. Everything that can be checked without the model is
    checked before it is loaded.

    Raises:
        ConfigError, DataError: a recipe, a model folder, an annotation file or an output folder that cannot work.
        JudgeError: the judge cannot be used, or stopped answering in mid-training; a checkpoint is kept then.
    """
    check_dropout(model_args, args)
    args.check_questions(data_args.questions_together)
    with run_folder(args) as run:
        source = data_args.load_mixture(args.seed)
        settings = run_settings("grpo", model_args, data_args, args, source, args.judge_config())
        run.begin(settings, insist=args.resume_changed)
        if run.finished is not None:
            return run.finished
        judge = open_judge(args)
        rewards, args.reward_weights = load_rewards(args.rewards, judge, args.bonuses())  # type: ignore[arg-type]
        of_groups = [reward for reward in rewards if isinstance(reward, GroupReward)]
        check_rewards_cover(source.samples(0), [each.__name__ for each in rewards if each not in of_groups], judge)
        for reward in of_groups:
            reward.check_tasks(source.samples(0))
        if args.truth_as_rollout:
            check_truths(source.samples(0), thinking=data_args.thinking)
        check_videos(source.samples(0), data_args.max_bad_video_share)
        processor = load_processor(model_args.model_name_or_path)
        builder = prompt_builder(model_args, data_args, processor)
        if args.process_index == 0:
            run.record(model=model_args, data=data_args, grpo=args)
            logger.info("%s", source.describe())
        keep_wandb_local(args)
        model, peft_config = load_policy(model_args, args)
        trainer = VideoGRPOTrainer(
            model,
            args=args,
            processor=processor,
            builder=builder,
            source=source,
            reward_funcs=rewards,
            max_bad_video_share=data_args.max_bad_video_share,
            callbacks=[*callbacks, *([TracksRollouts(every)] if (every := args.log_rollouts_to_trackers) else [])],
            peft_config=peft_config,
        )
        use_console_log(trainer)
        run.train(trainer)
        card = ModelCard("grpo", model_args, data_args, source.summaries)
        folder = save_final(trainer, processor, run.path, merge_lora=model_args.merge_lora, card=card)
        run.finish(trainer, folder)
    if args.use_vllm:
        # Left to the interpreter's end, the processes of a tensor-parallel engine wait for each other for ever.
        trainer.vllm_generation.engine.close()
    return folder


def check_dropout(model_args: ModelArguments, args: VideoGRPOConfig) -> None:
    """Refuse adapters with dropout before a model is loaded; the trainer looks at the model itself.

    Raises:
        ConfigError: sharing the prompt, which all completions of a group then see with one and the same dropout.
    """
    dropout = dict(model_args.lora or {}).get("lora_dropout") or 0.0  # type: ignore[arg-type]
    if args.share_prompt and float(dropout) > 0:
        raise ConfigError(
            f"lora.lora_dropout is {dropout}: sharing the prompt needs 0. Set it to 0, or share_prompt to false."
        )


def open_judge(args: VideoGRPOConfig) -> Judge | None:
    """The judge of a recipe with this process's part of its limits, once it has answered a question; None without one.

    Raises:
        ConfigError: settings that cannot work.
        JudgeError: it cannot be used, with its address, the reason and the mend.
    """
    config = args.judge_config()
    if config is None:
        return None
    judge = Judge(config.share_of(args.world_size))

    async def check() -> None:
        async with judge:
            await judge.check()

    asyncio.run(check())
    return judge


def load_rewards(
    entries: Sequence[Mapping[str, Any]] | None, judge: Judge | None = None, bonuses: Sequence[BonusOptions] = ()
) -> tuple[list[RewardFunction], list[float]]:
    """Reward functions and weights of a recipe; when it names none, all built-in ones with weight 1 (paper 3.2), those that
    take a judge only with one. Those of whole groups come last and with weight 1.

    Args:
        entries: name, weight, options.
        judge: handed to the rewards that have an option `judge`.
        bonuses: of the recipe.

    Raises:
        ConfigError: an unknown key or reward, or a bonus that these rewards leave without an accuracy.
    """
    rewards, weights = [], []
    listed: Sequence[Mapping[str, Any]] = entries if entries is not None else _all_rewards(judge)
    for entry in listed:
        check_keys(entry, ["name", "weight", "options"], where="rewards")
        if "name" not in entry:
            raise ConfigError(f"a reward needs a name (one of {sorted(REWARDS)}, or package.module:function): {entry}")
        options = dict(entry.get("options") or {})
        if judge is not None and _takes_judge(str(entry["name"])):
            options.setdefault("judge", judge)
        rewards.append(make_reward(str(entry["name"]), **options))
        weights.append(float(entry.get("weight", 1.0)))
    of_groups = group_rewards(bonuses, rewards)
    return [*rewards, *of_groups], [*weights, *[1.0] * len(of_groups)]


def check_rewards_cover(samples: Sequence[Sample], names: Sequence[str], judge: Judge | None = None) -> None:
    """A task without any reward would train on nothing, and one that needs a judge cannot do without.

    Raises:
        ConfigError: naming the tasks; a user's own reward may serve any task, so its presence settles it.
    """
    tasks = sorted({sample.task for sample in samples})
    judged = [
        task for task in tasks if judge is None and any(map(_takes_judge, set(TASKS[task].reward_names) & set(names)))
    ]
    if judged:
        raise ConfigError(
            f"the rewards of {judged} need a judge: add `judge: {{base_url: ..., model: ...}}` to the recipe (docs/judge.md)"
        )
    if any(name not in REWARDS for name in names):
        return
    bare = [task for task in tasks if not set(TASKS[task].reward_names) & set(names)]
    if bare:
        raise ConfigError(f"no reward in {list(names)} applies to {bare}; add one of their own to `rewards`")


def _takes_judge(name: str) -> bool:
    return "judge" in option_names(REWARDS[name])


def _all_rewards(judge: Judge | None) -> list[dict[str, str]]:
    return [{"name": name} for name in REWARDS if judge is not None or not _takes_judge(name)]
