"""The page of a conversation: modules of its own, and those that it shares with the window on runs."""

from videochat_r1.window.page_text import VIEW, Page

_SHARED = ("dom", "format", "player", "saw", "source", "timeline")
_OWN = ("box", "chat", "composer", "exchange", "library", "stream")

CHAT = Page(
    "videochat-r1 chat",
    {**{name: VIEW.modules[name] for name in _SHARED}, **{name: __package__ for name in _OWN}},
    "chat",
    (*VIEW.styles, (__package__, "chat.css")),
)
