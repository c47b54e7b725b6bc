"""A judge without a server, for questions of which the reply is known."""

from videochat_r1.judge import JudgeConfig


class ScriptedJudge:
    """Replies to every question with the same object."""

    config = JudgeConfig(base_url="http://localhost/v1", model="m")

    def __init__(self, **reply):
        self.reply = reply

    async def ask(self, question):
        return question.read(self.reply)
