"""The page of a conversation in front of a desk, served as the command serves it; and a folder of things to talk about."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from tests.video_files import write_pictures, write_video
from tests.window_runs import wait_for
from videochat_r1.chat.desk import Desk
from videochat_r1.chat.library import Library
from videochat_r1.chat.server import chat_app
from videochat_r1.window.playable import Copies
from videochat_r1.window.serving import WindowServer, listen

SECONDS = 4.0
"""Of every video."""


def write_folder(folder: Path) -> Path:
    """Videos, one of which no browser plays, and a picture; beside them what is nobody's to see, and links that lead there."""
    videos = folder / "videos"
    (videos / "inner").mkdir(parents=True)
    write_video(videos / "cat.mp4", 40, fps=10)
    write_video(videos / "inner" / "old.avi", 40, fps=10, codec="mpeg4")
    write_video(folder / "secret.mp4", 10, fps=10)
    (videos / "link.mp4").symlink_to(folder / "secret.mp4")
    write_pictures(videos / "photo.png", [np.full((40, 60, 3), 90, np.uint8)])
    (videos / "notes.json").write_text("{}")
    return videos


@contextmanager
def chat_page(desk: Desk, library: Library, token: str | None = None) -> Iterator[str]:
    """Serves it in a thread of this process; gives its address."""
    with closing(Copies()) as copies, closing(library), closing(listen("127.0.0.1", 0)) as listening:
        server = WindowServer(chat_app(desk, library, copies, token), desk.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
