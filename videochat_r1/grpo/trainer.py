"""GRPO on video: `trl.GRPOTrainer` with prompts that carry a video and are computed once per group.

Every override of a TRL or transformers method is in this file, or in a mixin of `training` that SFT shares, with its reason in
its docstring. What is not overridden (loss types, KL, clipping, advantages, DeepSpeed, PEFT) is TRL's.

The way of a batch: `GroupSampler` asks for prompts -> `PromptLoader` brings their `PromptInputs` -> `_draw` (`DrawsRollouts`)
has G rollouts of each drawn, a `Turn` per row -> `_generate_and_score_completions` lets TRL score and normalise them ->
`_prepare_inputs` deals them out in micro-batches of whole groups -> `_compute_loss` is TRL's, over log-probabilities from
`completion_logps`.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOTrainer

from videochat_r1.errors import ConfigError, JudgeError
from videochat_r1.grpo.agreement import agreement, apart, refuse_other_prompts, refuse_other_sampler
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.credit import absent_share, credited, look_metrics
from videochat_r1.grpo.group_rewards import TemporalBonus
from videochat_r1.grpo.looks import FurtherLooks
from videochat_r1.grpo.packing import shared_share
from videochat_r1.grpo.parts_of_trl import parts_for
from videochat_r1.grpo.payment import Payment
from videochat_r1.grpo.reward_calls import RewardCalls, UnscoredRollouts, lone_share
from videochat_r1.grpo.rollout_file import ROLLOUTS, drop_rollouts_after
from videochat_r1.grpo.rollout_log import Drawn, RolloutLog
from videochat_r1.grpo.rollouts import DrawsRollouts
from videochat_r1.grpo.rows import (
    Shown,
    Turn,
    advantage_rounding,
    complete_rows,
    cut_rows,
    informative_groups,
    leave_out_rows,
    replace_groups,
    spread,
    weigh_rows,
    without_groups,
)
from videochat_r1.grpo.second_look import AskedForClues
from videochat_r1.grpo.shared_prefix import (
    completion_logps,
    install_shared_prefix,
    refuse_dropout,
    sharing_pays,
    verify_shared,
)
from videochat_r1.grpo.tally import length_metrics
from videochat_r1.grpo.token_log import TokenLog
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import eos_token_ids, vision_token_ids
from videochat_r1.modeling.media_features import has_frozen_tower
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.training import checkpoint, resumable
from videochat_r1.training.divergence import StopsWhenDiverged
from videochat_r1.training.loader import BadSamples, LoadedPrompt, PromptLoader, load_prompts
from videochat_r1.training.sampler import BatchLayout, GroupSampler, PromptRequest, Requests, SampleSource
from videochat_r1.training.saving import SavesPlainFolders

logger = logging.getLogger(__name__)

RewardFunction = Callable[..., list[float | None]]


class VideoGRPOTrainer(DrawsRollouts, StopsWhenDiverged, SavesPlainFolders, resumable.ResumableTrainer, GRPOTrainer):
    """GRPO on samples with videos.

    Args:
        model: of one of `FAMILIES`; with `peft_config`, adapters are put on it.
        args: options.
        processor: of the model.
        builder: makes prompts from samples; used in loader workers and here.
        source: the samples and their order.
        reward_funcs: see `videochat_r1.rewards`; `args.reward_weights` weighs them. A `TemporalBonus` among them has further
            rollouts drawn of videos.
        max_bad_video_share: training stops when more than this share of the samples seen could not be read.
        callbacks: transformers' callbacks.
        peft_config: for LoRA.

    Raises:
        ConfigError: a combination that cannot work, before anything expensive happens.
    """

    args: VideoGRPOConfig
    _last_loaded_step: int

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        args: VideoGRPOConfig,
        processor: ProcessorMixin,
        builder: PromptBuilder,
        source: SampleSource,
        reward_funcs: list[RewardFunction],
        max_bad_video_share: float = 0.05,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: Any = None,
    ) -> None:
        if args.eval_strategy != "no":
            raise ConfigError("evaluation during training is not part of this trainer: set eval_strategy to 'no'")
        self._layout = BatchLayout(
            num_processes=args.world_size,
            groups_per_micro_batch=args.per_device_train_batch_size // args.num_generations,
            micro_batches=args.steps_per_generation,
            repeats=args.steps_per_generation * args.num_iterations,
        )
        self._looks = args.several_looks()
        self._rows_per_prompt = args.num_generations * (1 if self._looks is None else self._looks.looks)
        self._sampler = GroupSampler(source if self._looks is None else AskedForClues(source), self._layout)
        self._builder = builder
        self._sampling = SamplingSettings(
            max_new_tokens=args.max_completion_length,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            min_p=args.min_p or 0.0,
            repetition_penalty=args.repetition_penalty,
            eos_token_ids=eos_token_ids(model, processor),
            suppressed_token_ids=vision_token_ids(processor),
        )
        self._reward_calls = RewardCalls(reward_funcs)
        self._contrast = next((reward for reward in reward_funcs if isinstance(reward, TemporalBonus)), None)
        install_shared_prefix(model)
        if args.use_vllm and args.vllm_max_model_length is None and builder.max_prompt_length is not None:
            args.vllm_max_model_length = builder.max_prompt_length + args.max_completion_length
        with parts_for(model, use_vllm=args.use_vllm):
            super().__init__(
                model=model,
                args=args,
                reward_funcs=self._reward_calls.functions,
                processing_class=processor,
                # TRL asks for a Dataset; its rows are never read, only counted.
                train_dataset=Dataset.from_dict({"prompt": [""] * self._sampler.num_samples}),
                callbacks=callbacks,
                peft_config=peft_config,
            )
        self._payment = Payment(args.running_scale(), self.reward_weights.tolist(), shape=args.truth_as_rollout)
        self.also_kept = (self._payment,)
        self.scale_rewards = self._payment.left_to_trl(args.scale_rewards)
        if args.share_prompt:
            refuse_dropout(self.model)
        if self.ref_model is not None:
            install_shared_prefix(self.accelerator.unwrap_model(self.ref_model))
        self._further: FurtherLooks | None = None
        if self._looks is not None:
            self._looks.check_rewards(self.reward_func_names)
            self._further = FurtherLooks(builder, self._looks, workers=max(2, args.dataloader_num_workers))
        self._loader = PromptLoader(
            builder,
            self._sampler,
            args.process_index,
            num_workers=args.dataloader_num_workers,
            prefetch=args.dataloader_prefetch_factor or 2,
        )
        # Also true of LoRA, whose adapters are on the language model.
        self._tower_is_frozen = has_frozen_tower(self.model)
        self._buffered_inputs: list[dict[str, Any]] | None = None
        self._shown = Shown()
        self._turns: list[Turn] = []
        self._lone_share = self._absent_share = 0.0
        self._token_log = TokenLog(processor) if args.log_rollouts and args.log_token_logps else None
        self._rollout_file = Path(args.output_dir) / ROLLOUTS
        self._rollout_log = RolloutLog(
            self._rollout_file if args.log_rollouts else None,
            self.reward_func_names,
            self.reward_weights.tolist(),
            self.num_generations,
            self._rows_per_prompt // self.num_generations,
        )
        self._logps: torch.Tensor | None = None
        self._verified = not args.verify_shared_prompt
        self.bad_samples = BadSamples(max_bad_video_share)
        self.unscored = UnscoredRollouts(args.max_unscored_share)
        self.add_callback(_ContinueRun(self))

    # --- data ---------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """TRL repeats each prompt G times and lets loader workers read it each time; here a row is one prompt, and
        videos are read once, by `PromptLoader`."""
        loader: DataLoader = DataLoader(
            Requests(self._sampler.num_samples),  # type: ignore[arg-type]
            batch_size=self._layout.prompts_per_process,
            sampler=self._sampler,  # type: ignore[arg-type]
            collate_fn=list,
        )
        return self.accelerator.prepare(loader)

    def _prepare_inputs(self, generation_batch: list[PromptRequest]) -> dict[str, Any]:
        """TRL shuffles completions across groups, which would tear a prompt from its completions; order is kept here.
        A resumed run continues with the completions that its checkpoint kept."""
        micro_batches = self._layout.micro_batches
        if self._buffered_inputs is None or self._step % self._layout.repeats == 0:
            batch = self._generate_and_score_completions(generation_batch)  # type: ignore[arg-type]
            self._buffered_inputs = [cut_rows(batch, part, micro_batches) for part in range(micro_batches)]
            if self._layout.groups_per_micro_batch > 1:
                share = shared_share(batch["row_prompts"] for batch in self._buffered_inputs)
                self._metrics["train"]["prompts/shared_share"].append(share)
        elif "row_prompts" not in self._buffered_inputs[0]:
            for batch in self._buffered_inputs:
                self._restore_prompts(batch, generation_batch)
        return self._buffered_inputs[self._step % micro_batches]

    def _restore_prompts(self, batch: dict[str, Any], requests: Sequence[PromptRequest]) -> None:
        """Build the prompts of a micro-batch that came out of a checkpoint again, from where its groups came from."""
        samples = [
            self._sampler.further(step, draw, self.args.process_index, count)[index] if draw else requests[index].sample
            for step, draw, count, index in batch["row_source"][:: self._rows_per_prompt].tolist()
        ]
        prompts = self._on_device(load_prompts(self._builder, samples))
        of_rows = self._repeated(prompts)
        if self._further is not None:
            completions = self._decode(batch["completion_ids"].tolist())
            valid = batch["row_valid"].tolist()
            of_rows = self._further.again(samples, prompts, completions, valid, self.accelerator.device)
        # What could be read before may be gone now.
        usable = torch.tensor([prompt is not None for prompt in of_rows], device=batch["row_valid"].device)
        leave_out_rows(batch, batch["row_valid"] & usable)
        batch.update(row_prompts=of_rows, row_features=None)

    def _repeated(self, values: Sequence[Any]) -> list[Any]:
        """One value per row from one per prompt."""
        return [value for value in values for _ in range(self._rows_per_prompt)]

    # --- generation and scoring ---------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[PromptRequest]) -> dict[str, Any]:  # type: ignore[override]
        """TRL's method works on rows without video; see `_generate_once`. With dynamic sampling, groups whose rewards
        are all equal are replaced by groups of further prompts."""
        waited = self._loader.seconds_waited
        output = self._generate_once(self._loader.take(inputs), draw=0)
        for draw in range(1, self.args.dynamic_sampling_draws + 1):
            missing = (~self._informative_groups(output)).sum()
            wanted = int(self.accelerator.gather(missing).max())
            if wanted == 0:
                break
            more = self._sampler.further(self.state.global_step, draw, self.args.process_index, wanted)
            extra = self._generate_once(self._loader.load_now(more), draw=draw)
            output, replaced = replace_groups(output, extra, self._rows_per_prompt, self._advantage_rounding)
            self._metrics["train"]["dynamic_sampling/groups_replaced"].append(float(sum(gather_object([replaced]))))
        self._metrics["train"]["time/video_wait"].append(self._loader.seconds_waited - waited)
        weigh_rows(output, self.loss_type, self._layout.micro_batches, self._add_up)
        return output

    def _add_up(self, values: torch.Tensor) -> torch.Tensor:
        """Over all ranks."""
        return self.accelerator.reduce(values, reduction="sum")

    @property
    def _advantage_rounding(self) -> float:
        return advantage_rounding(self.scale_rewards, self.multi_objective_aggregation)

    def _informative_groups(self, batch: dict[str, Any]) -> torch.Tensor:
        return informative_groups(batch["advantages"], self._rows_per_prompt, self._advantage_rounding)

    def _generate_once(self, loaded: list[LoadedPrompt], *, draw: int) -> dict[str, Any]:
        """Completions, rewards and advantages of these prompts: G rows of text each for TRL, with what those rows show at
        hand for the methods below, and no weight for rows whose video could not be read."""
        self.bad_samples.count(loaded, is_main_process=self.accelerator.is_main_process)
        self._metrics["train"]["data/bad_samples"] = [float(len(self.bad_samples.listed))]
        turns = self._turns = self._draw(loaded, draw)
        features = [turn.features for turn in turns] if self._tower_is_frozen else None
        with self._in_hand(Shown([turn.prompt for turn in turns], features)):
            output = super()._generate_and_score_completions([turn.columns for turn in turns])
        advantages = self.accelerator.gather(output["advantages"]).tolist()
        complete_rows(output, turns, features, (self.state.global_step, draw, len(loaded)))
        if self.multi_objective_aggregation == "sum_then_normalize" and self.scale_rewards != "batch":
            # The deviation of fewer than two rewards is NaN, which TRL does not count as zero.
            equal = self._metrics["train"]["frac_reward_zero_std"]
            equal[-1] = (equal[-1] + self._lone_share - self._absent_share) / (1 - self._absent_share)
        differences = apart(output) if self._token_log else None
        differences = None if differences is None else gather_object(differences)
        if self.accelerator.is_main_process:
            measured = self._rollout_log.totals() if self._looks is not None or self._payment.differs else {}
            for name, value in measured.items():
                self._metrics["train"][name][-1] = value
            self._rollout_log.write(advantages, differences)
        return output

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        """TRL generates every row from its own copy of the prompt; here all rows are drawn already, and one of which nothing is
        learned has one token and no part in metrics. Of prompts, which are forwarded with what they show, TRL gets one token.

        vLLM's log-probabilities go on to TRL, which weighs completions by how far they are from the trainer's.
        """
        eos, rollouts = self._tokenizer.eos_token_id, [turn.rollout for turn in self._turns]
        drawn = gather_object([turn.lengths for turn in self._turns if turn.lengths is not None])
        self.state.num_input_tokens_seen += sum(of_prompt + of_completion for of_prompt, of_completion, _ in drawn)
        metrics = self._metrics["train"]
        metrics["num_tokens"] = [self.state.num_input_tokens_seen]
        for name, value in length_metrics([one[1:] for one in drawn]).items():
            metrics[name].append(value)
        logps = [[math.nan] if rollout is None else rollout.logps for rollout in rollouts] if self.use_vllm else None
        completion_ids = [[eos] if rollout is None else rollout.completion_ids for rollout in rollouts]
        completions = [turn.completion for turn in self._turns]
        return [[eos] for _ in rollouts], completion_ids, None, completions, logps, {}, None, []

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: list[str], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        """TRL's, without those of rows that nothing was drawn for or that could not be judged, on all ranks: a reward missing
        beside others would count as 0 in TRL's sum. The scored rows are kept for the log."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        outcomes = self._reward_calls.take(len(inputs))
        drawn = gather_object([Drawn.of(*row, self._token_log) for row in zip(self._turns, outcomes, strict=True)])
        rewards[torch.tensor([not one.is_scored for one in drawn], device=rewards.device)] = torch.nan
        paid = rewards
        if self._looks is not None:
            paid = credited(rewards, drawn, self.reward_func_names, self._looks, self.num_generations)
        paid, paid_metrics = self._payment(paid, drawn)
        self._lone_share = lone_share(paid, self.num_generations)
        self._absent_share = absent_share(drawn, self.num_generations)
        judged = [one.outcome for one in drawn if one.is_drawn]
        problem = self.unscored.count(judged, is_main_process=self.accelerator.is_main_process)
        if problem is not None:
            self._stop_with_checkpoint(problem)
        if self.accelerator.is_main_process:
            found = self._rollout_log.score(self.state.global_step + 1, drawn, rewards.tolist(), paid.tolist())
            found |= look_metrics(drawn, rewards, self.reward_func_names) | paid_metrics
            for name, value in found.items():
                self._metrics["train"][name].append(value)
        return paid

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL logs None for what no row of the steps had (a reward, when all videos were left out); trackers take numbers."""
        metrics = self._metrics["train"]
        for name in [name for name, values in metrics.items() if all(map(math.isnan, values))]:
            del metrics[name]
        super().log(logs, start_time)

    def _stop_with_checkpoint(self, problem: str) -> None:
        """All ranks alike: keep the updates made so far, and end the run.

        Raises:
            JudgeError: always.
        """
        step = self.state.global_step
        newest = checkpoint.last_checkpoint(Path(self.args.output_dir))
        # One rank's word counts: a shared file system may show the others an older folder.
        saved = gather_object([newest is not None and checkpoint.step(newest) == step])[0]
        if step and not saved:
            self._save_checkpoint(self.model, None)
        kept = f"The same command goes on after update {step}, the last" if step else "No update had been made"
        raise JudgeError(f"{problem}. Training has stopped. {kept}")

    # --- log-probabilities and loss -------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(  # type: ignore[override]
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **unused: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """TRL's keyword list knows no video. Rows are those in hand, in whole groups per forward."""
        completion_ids = input_ids[:, -logits_to_keep:]
        completion_mask = attention_mask[:, -logits_to_keep:]
        # TRL counts rollouts, which may have several rows.
        size = batch_size * self._rows_per_prompt // self.num_generations if batch_size else len(completion_ids)
        parts = [slice(begin, begin + size) for begin in range(0, len(completion_ids), size)]
        results = [
            self._logps_of(model, part, completion_ids[part], completion_mask[part], compute_entropy) for part in parts
        ]
        self._logps = torch.cat([logps for logps, _ in results])
        self._shown.leave_kl_out(self._logps)
        entropies = [entropy for _, entropy in results if entropy is not None]
        return self._logps, self._shown.with_bonus(torch.cat(entropies)) if compute_entropy else None, None

    def _logps_of(
        self, model: Any, part: slice, ids: torch.Tensor, mask: torch.Tensor, compute_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One forward over the rows that have a token to score; zeros for the others.

        Where there is no such row the forward is over one blank token, because under ZeRO-3 every rank has to take
        part in it.
        """
        prompts, features = self._shown.prompts[part], self._shown.features
        scored = [
            prompt if any_token else None for prompt, any_token in zip(prompts, mask.any(dim=1).tolist(), strict=True)
        ]
        used = torch.tensor([row for row, prompt in enumerate(scored) if prompt is not None], device=mask.device).long()
        if len(used):
            rows = ([prompt for prompt in scored if prompt is not None], ids[used], mask[used])
            used_features = None if features is None else [features[part][row] for row in used.tolist()]
        else:
            eos = torch.full_like(ids[:1, :1], self._tokenizer.eos_token_id)
            rows = ([self._blank()], eos, torch.ones_like(eos))
            used_features = None if features is None else [self._placeholder_features]
        if compute_entropy and not self._verified:
            self._verify(model, rows)
        with self.accelerator.autocast():
            logps, entropy = completion_logps(
                model,
                *rows,
                share_prompt=self.args.share_prompt and sharing_pays(rows[0], rows[2]),
                compute_entropy=compute_entropy,
                pad_token_id=self._tokenizer.pad_token_id,
                media_features=used_features,
            )
        if not len(used):
            nothing = logps.sum() * 0.0 + torch.zeros_like(mask, dtype=logps.dtype)
            return nothing, nothing.detach() if compute_entropy else None
        return spread(logps, used, mask), None if entropy is None else spread(entropy, used, mask)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """TRL's loss over this micro-batch's rows; on the first use of completions also the sampler's agreement."""
        if self.args.skip_uninformative_groups:
            inputs = self._without_uninformative_groups(inputs)
        with self._in_hand(Shown.of(inputs)):
            loss = super()._compute_loss(model, inputs) * inputs["loss_scale"]
        if self._step % self._layout.repeats < self.args.gradient_accumulation_steps:
            self._compare_with_sampler(inputs)
        return loss

    def _without_uninformative_groups(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Groups whose advantages are all zero add nothing to a loss without KL term: no token of theirs is scored."""
        informative = self._informative_groups(inputs)
        skipped = self.accelerator.gather((~informative).float().sum()).sum().item()
        # TRL logs the mean over micro-batches, which makes this the number of an update.
        self._metrics["train"]["groups_skipped"].append(skipped * self.args.gradient_accumulation_steps)
        return without_groups(inputs, informative, self._rows_per_prompt)

    def _compare_with_sampler(self, inputs: dict[str, Any]) -> None:
        """While the weights are those that sampled, the trainer's log-probabilities must be the sampler's."""
        assert self._logps is not None
        sampled, mask = inputs["sampler_logps"], inputs["completion_mask"]
        found = agreement(self._logps, sampled, mask, self._add_up, self.accelerator.gather)
        self._metrics["train"]["sampling/sampling_logp_difference/mean"].append(found.mean)
        self._metrics["train"]["sampling/sampling_logp_difference/max"].append(found.largest)
        if self.state.global_step == 0:
            refuse_other_sampler(found.mean, exact=self._is_exact)

    @property
    def _is_exact(self) -> bool:
        """Whether nothing is rounded to 16 bits."""
        return self.model.dtype == torch.float32 and not self.args.bf16

    @contextmanager
    def _in_hand(self, shown: Shown) -> Iterator[Shown]:
        """State, for the calls that TRL makes inside, what each row shows."""
        self._shown = shown
        try:
            yield shown
        finally:
            self._shown = Shown()

    def _verify(self, model: Any, rows: tuple[list[PromptInputs], torch.Tensor, torch.Tensor]) -> None:
        """Compare shared with repeated prompts once."""
        self._verified = True
        with self.accelerator.autocast():
            difference = verify_shared(model, *rows, pad_token_id=self._tokenizer.pad_token_id)
        logger.info("shared against repeated prompts on the first batch: %s", difference)
        refuse_other_prompts(difference, exact=self._is_exact)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def save_more(self, folder: Path) -> None:
        """Completions that later updates of this generation will still use."""
        if self._step % self._layout.repeats:
            assert self._buffered_inputs is not None
            resumable.save_generation_buffer(folder, self.args.process_index, self._buffered_inputs)

    def continue_run(self, state: TrainerState) -> None:
        """Take up the place inside a generation, and its completions; called when training is about to begin."""
        self._step = state.global_step * self.args.gradient_accumulation_steps
        if self.accelerator.is_main_process:
            drop_rollouts_after(self._rollout_file, state.global_step)
        if self._step % self._layout.repeats:
            assert self.resumed_from is not None
            self._buffered_inputs = resumable.load_generation_buffer(
                self.resumed_from, self.args.process_index, self.accelerator.device
            )


class _ContinueRun(TrainerCallback):
    """Training is about to begin and `state` is that of the checkpoint, if there is one."""

    def __init__(self, trainer: VideoGRPOTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by transformers."""
        self._trainer.continue_run(state)
