"""The LLM judge of captions: what it is asked, whom, how often, and what becomes of answers that never come.

Nothing here imports torch, and `openai` is imported when the first question is asked.
"""

from videochat_r1.judge.client import Judge
from videochat_r1.judge.config import JudgeConfig, read_judge_config
from videochat_r1.judge.server import UnscoredError

__all__ = ["Judge", "JudgeConfig", "UnscoredError", "read_judge_config"]
