"""How the trainer has rollouts drawn: by an engine with the newest weights, all looks of all prompts before TRL sees any."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation

from videochat_r1.errors import DivergedError
from videochat_r1.grpo.drawing import draw_turns, first_turns, reward_columns, shuffled_turns, tell_accuracy
from videochat_r1.grpo.rows import Turn, noise_seed
from videochat_r1.grpo.truth import give_truths
from videochat_r1.modeling.inputs import PromptInputs, on_device
from videochat_r1.modeling.media_features import encode_each, tower_parameters
from videochat_r1.rollout.base import RolloutEngine
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.training.loader import LoadedPrompt


class DrawsRollouts:
    """The part of the trainer that draws. Put before the trainer class among the bases; it overrides nothing."""

    _placeholder: PromptInputs | None = None
    _placeholder_features: torch.Tensor | None = None

    def _on_device(self: Any, loaded: Sequence[LoadedPrompt]) -> list[PromptInputs | None]:
        """Inputs of each prompt on the device; None of what cannot be used."""
        moved = iter(on_device([one.inputs for one in loaded if one.inputs is not None], self.accelerator.device))
        return [None if one.inputs is None else next(moved) for one in loaded]

    def _blank(self: Any) -> PromptInputs:
        """A blank clip for a forward without any row: under ZeRO-3 every rank has to run the same modules, vision tower
        included."""
        if self._placeholder is None:
            self._placeholder = self._builder.blank().to(self.accelerator.device)
        return self._placeholder

    def _decode(self: Any, completion_ids: list[list[int]]) -> list[str]:
        """The text of each."""
        return list(self.processing_class.batch_decode(completion_ids, skip_special_tokens=True))

    def _draw(self: Any, loaded: list[LoadedPrompt], number: int) -> list[Turn]:
        """The rows of these prompts, drawn; a judge reads them while TRL computes their log-probabilities."""
        samples = [prompt.sample for prompt in loaded]
        noise = partial(noise_seed, self.args.seed, self.state.global_step, number)
        turns = first_turns(
            loaded, self._on_device(loaded), noise, self.num_generations, thinking=self._builder.thinking
        )
        if self.args.truth_as_rollout:
            give_truths(turns, samples, self._builder, self._tokenizer, self.args.max_completion_length)
        aside: list[list[Turn]] = []
        if self._contrast is not None:
            aside = shuffled_turns(self._builder, samples, turns, noise, self._contrast.generations)
        with profiling_context(self, "rollout"), self._rollout_engine() as engine:
            draw = partial(self._draw_together, engine)
            if self._further is None:
                draw([*turns, *itertools.chain(*aside)])
            else:
                turns = self._further.draw(samples, turns, noise, draw, self.accelerator.device)
        arguments = {
            "trainer_state": self.state,
            "log_extra": self._log_completion_extra,
            "log_metric": self._log_metric,
        }
        if self._contrast is not None:
            tell_accuracy(self._contrast, turns, aside, arguments)
        if self._has_async_funcs:
            completions = [turn.completion for turn in turns]
            rows = [row for row, turn in enumerate(turns) if turn.rollout is not None]
            columns = reward_columns([turns[row] for row in rows])
            self._reward_calls.begin(self.async_loop, completions, rows, {**columns, **arguments})
        return turns

    def _draw_together(self: Any, engine: RolloutEngine, turns: Sequence[Turn]) -> None:
        """See `draw_turns`; a rank whose model has diverged stops all of them."""
        problem = None
        try:
            draw_turns(engine, turns, self._sampling, self._decode, self._encode if self._tower_is_frozen else None)
        except DivergedError as error:
            problem = error
        if any(gather_object([problem is not None])):
            raise self.diverged("the model's logits are NaN or infinite") from problem

    @contextmanager
    def _rollout_engine(self: Any) -> Iterator[RolloutEngine]:
        """An engine with the newest weights, that computes in training's precision."""
        if self.use_vllm:
            if self.state.global_step != self._last_loaded_step:
                with profiling_context(self, "sync_weights"):
                    self.vllm_generation.sync_weights()
                self._last_loaded_step = self.state.global_step
            yield self.vllm_generation
            return
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            self.accelerator.autocast(),
        ):
            yield TransformersEngine(
                model,
                self._tokenizer.pad_token_id,
                max_batch_rows=self.args.rollout_batch_rows,
                cuda_graph=self.args.rollout_cuda_graph,
            )

    def _encode(self: Any, prompts: list[PromptInputs]) -> list[torch.Tensor | None]:
        """With a frozen tower, the features that rollout, policy, old policy and reference will all use; on all ranks together."""
        model = self.accelerator.unwrap_model(self.model_wrapped)
        # The other engine has all weights gathered already.
        gathered = self._dist.gather_params(tower_parameters(model)) if self.use_vllm else nullcontext()
        with gathered, self.accelerator.autocast():
            if self._placeholder_features is None:
                (self._placeholder_features,) = encode_each(model, [self._blank()])
            return encode_each(model, prompts)
