"""All decoders give the frames that reading a file from its beginning gives, whatever the container does to seeking."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.video_files import number_of, numbered_image, write_pictures, write_video
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video import backends
from videochat_r1.video.backends import BACKENDS, decode_with_decord, decode_with_pyav, decode_with_torchcodec
from videochat_r1.video.decode import SamplingRequest, decode
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.probe import probe
from videochat_r1.video.timeline import Timeline, groups_to_decode, read_timeline

TICKS = np.cumsum(np.random.default_rng(0).integers(1, 90, 120)).tolist()
OPEN_GROUPS = {"g": "20", "bf": "3", "preset": "veryfast", "crf": "18", "x264-params": "open-gop=1:scenecut=0"}
KINDS = {
    "plain.mp4": {},
    "begins_with_index.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "open_groups.mp4": {"options": OPEN_GROUPS},
    "open_groups.mkv": {"options": OPEN_GROUPS},
    "uneven.mp4": {"ticks": TICKS},
    "uneven.mkv": {"ticks": TICKS},
    "one_group.mp4": {"options": {"g": "1000", "bf": "2", "preset": "ultrafast"}},
    "only_keys.mp4": {"options": {"g": "1", "preset": "ultrafast"}},
    "b_frames.avi": {},
    "flash.flv": {},
    "part4.avi": {"codec": "mpeg4", "options": {"g": "20", "bf": "2", "b": "2M"}},
    "part4.mp4": {"codec": "mpeg4", "options": {"g": "20", "bf": "2", "b": "2M"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "20", "deadline": "realtime", "b": "2M"}},
}
WANTED = [0, 3, 19, 20, 21, 38, 39, 40, 41, 57, 80, 99, 100, 118, 119]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos")
    for name, how in KINDS.items():
        write_video(path / name, 120, **how)  # type: ignore[arg-type]
    return path


@pytest.fixture(params=[2000, 0], ids=["in order", "sought in"])
def seeking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a short file, and as in one so long that it is sought in."""
    monkeypatch.setattr(backends, "PACKETS_WORTH_SEEKING", request.param)


@pytest.mark.usefixtures("seeking")
@pytest.mark.parametrize("backend", ["decord", "pyav"])
@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_one_asked_for(folder: Path, name: str, backend: str) -> None:
    path = str(folder / name)
    timeline = read_timeline(path)
    assert timeline.num_frames == 120
    for wanted in (WANTED, [77], [118, 119], list(range(120))):
        images = BACKENDS[backend](path, timeline, wanted, 1)
        assert [number_of(image) for image in images] == wanted


@pytest.mark.usefixtures("seeking")
def test_transport_stream_is_read_by_pyav_and_never_wrongly_by_decord(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.ts", 120))
    timeline = read_timeline(path)
    assert timeline.times[0] == 0.0 and timeline.duration == pytest.approx(4.8)
    assert [number_of(image) for image in decode_with_pyav(path, timeline, WANTED, 1)] == WANTED
    with pytest.raises(VideoError, match="pyav"):
        list(decode_with_decord(path, timeline, WANTED, 1))


@pytest.mark.usefixtures("seeking")
def test_frames_cut_off_by_an_edit_list_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    whole = write_video(tmp_path / "whole.mp4", 120)
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled", "use_editlist": "1"}) as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        shift = round(0.6 / stream.time_base)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    timeline = read_timeline(str(path))
    assert timeline.num_frames == 105 and len(timeline.packet_pts) == 120
    for backend in (decode_with_decord, decode_with_pyav):
        images = backend(str(path), timeline, [0, 7, 30, 104], 1)
        assert [number_of(image) for image in images] == [15, 22, 45, 119]


@pytest.mark.usefixtures("seeking")
def test_recording_that_begins_within_a_group_shows_what_can_be_decoded(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(folder / "open_groups.mp4")) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        second_key = packets[[packet.is_keyframe for packet in packets[1:]].index(True) + 1].pts
        for packet in packets[5:]:
            packet.stream = copy
            target.mux(packet)
    first = round(second_key * stream.time_base * 25)
    timeline = read_timeline(str(path))
    assert timeline.num_frames == 120 - first
    for backend in (decode_with_decord, decode_with_pyav):
        try:
            images = [number_of(image) for image in backend(str(path), timeline, [0, 7, 60], 1)]
        except VideoError:
            assert backend is decode_with_decord
        else:
            assert images == [first, first + 7, first + 60]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_videos_are_shown_upright(tmp_path: Path, degrees: int) -> None:
    path = str(write_video(tmp_path / "a.mp4", 10, rotation=degrees))
    timeline = read_timeline(path)
    decord, pyav = (list(decode(path, timeline, [0, 5], 1)) for decode in (decode_with_decord, decode_with_pyav))
    assert np.array_equal(decord, pyav)
    assert pyav[0].shape == ((128, 64, 3) if degrees != 180 else (64, 128, 3))
    assert number_of(np.rot90(pyav[1], -degrees // 90)) == 5


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("ticks", "shown"),
    [
        ([0, 100, 100, 200, 300, 300, 300, 400, 500, 600, 700, 800, 900, 900], [0, 2, 3, 6, 7, 8, 9, 10, 11, 13]),
        ([0, 0, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ([500] * 8, [7] * 10),
        (None, [1, 21, 41, 61, 81, 101]),
    ],
)
def test_of_pictures_with_one_time_the_last_is_shown(
    tmp_path: Path, ticks: list[int] | None, shown: list[int], backend: str, isolation: str
) -> None:
    if ticks is None:  # Matroska keeps whole milliseconds
        path = write_video(tmp_path / "a.mkv", 120, fps=4000, options={"g": "7", "bf": "0", "preset": "ultrafast"})
        budget = VideoBudget(fps=200.0, max_frames=6, backend=backend, isolation=isolation)
    else:
        path = write_pictures(
            tmp_path / "a.mkv",
            [numbered_image(k) for k in range(len(ticks))],
            codec="mjpeg",
            formats=["yuvj420p"],
            ticks=ticks,
        )
        budget = VideoBudget(fps=10.0, max_frames=10, min_frames=10, backend=backend, isolation=isolation)
    try:
        frames = load_frames(Video(path=str(path)), budget, factor=28)
    except VideoError as error:
        assert "decord does not decode it" in str(error) and len(set(ticks or ())) == 1
    else:
        assert [number_of(image.permute(1, 2, 0).numpy()) for image in frames.pixels] == shown


def test_decoding_threads_do_not_change_the_frames(folder: Path) -> None:
    path = str(folder / "open_groups.mp4")
    timeline = read_timeline(path)
    for backend in (decode_with_decord, decode_with_pyav):
        one, three = (list(backend(path, timeline, WANTED, threads)) for threads in (1, 3))
        assert np.array_equal(one, three)


NO_DISPLAY_TIMES = {
    "closed.avi": {},
    "open.avi": {"options": OPEN_GROUPS},
    "part4.avi": {"codec": "mpeg4", "options": {"g": "20", "bf": "2", "b": "2M"}},
    "only_keys.avi": {"codec": "ffv1", "options": {}},
    "program.mpg": {"codec": "mpeg2video", "options": {"g": "20", "bf": "2", "b": "2M"}},
}


class Counted:
    """A decoder that counts what it is given; all else is the one behind it."""

    def __init__(self, behind: Any) -> None:
        self.__dict__.update(behind=behind, packets=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.behind, name, value)

    def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        self.__dict__["packets"] += packet is not None
        return list(self.behind.decode(packet))


@pytest.mark.parametrize("backend", ["decord", "pyav"])
@pytest.mark.parametrize("name", ["plain.mp4", "open_groups.mkv", "flash.flv", "part4.mp4", *NO_DISPLAY_TIMES])
def test_a_clip_late_in_a_file_costs_no_more_than_an_early_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    how = KINDS.get(name) or NO_DISPLAY_TIMES.get(name, {})
    path = str(write_video(tmp_path / name, 600, **how))  # type: ignore[arg-type]
    timeline = read_timeline(path)
    contexts: list[Counted] = []

    class Stream:
        def __init__(self, behind: av.VideoStream) -> None:
            self.codec_context = Counted(behind.codec_context)
            contexts.append(self.codec_context)

    open_near = backends._open_near

    def opened(*arguments: Any) -> tuple[Any, Any, Any]:
        container, stream, packets = open_near(*arguments)
        return container, Stream(stream), packets

    monkeypatch.setattr(backends, "PACKETS_WORTH_SEEKING", 20)
    monkeypatch.setattr(backends, "_open_near", opened)
    decoded = []
    for first in (40, 590):
        contexts.clear()
        images = list(BACKENDS[backend](path, timeline, range(first, first + 8), 1))
        assert len(images) == 8 and number_of(images[0]) == first % 256
        decoded.append(sum(context.packets for context in contexts))
    assert decoded[1] <= max(60, 3 * decoded[0])


@pytest.mark.parametrize(
    ("suffix", "lands"), [("mp4", True), ("mkv", True), ("flv", True), ("avi", True), ("ts", False)]
)
def test_packets_before_a_clip_are_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, lands: bool
) -> None:
    monkeypatch.setattr(backends, "PACKETS_WORTH_SEEKING", 20)
    path = str(write_video(tmp_path / f"a.{suffix}", 120))
    timeline = read_timeline(path)
    _, _, packets = backends._open_near(path, timeline, 80)
    number, packet = next(packets)
    stamp = packet.pts if timeline.pts is not None else packet.dts
    assert number == (80 if lands else 0) and stamp == timeline.packet_pts[number]


@pytest.mark.parametrize("name", NO_DISPLAY_TIMES)
def test_frames_without_display_times_are_found_wherever_decoding_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(backends, "PACKETS_WORTH_SEEKING", 0)
    path = str(write_video(tmp_path / name, 120, **NO_DISPLAY_TIMES[name]))  # type: ignore[arg-type]
    timeline = read_timeline(path)
    for first in range(0, 120, 3):
        images = decode_with_pyav(path, timeline, [first, 119], 1)
        assert [number_of(image) for image in images] == [first, 119][: 1 + (first < 119)]


def test_a_key_frame_that_is_none_is_not_begun_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "PACKETS_WORTH_SEEKING", 0)
    path = str(write_video(tmp_path / "a.avi", 120))
    timeline = read_timeline(path)
    wrong = replace(timeline, packet_is_key=np.ones(120, dtype=np.bool_))
    assert [number_of(image) for image in decode_with_pyav(path, wrong, WANTED[-5:], 1)] == WANTED[-5:]


def test_only_the_groups_of_wanted_frames_are_decoded() -> None:
    def timeline(packets: list[int], keys: list[int]) -> Timeline:
        pts = np.array(packets)
        is_key = np.isin(pts, keys)
        return Timeline(np.sort(pts) / 25, 0.0, len(pts) / 25, np.sort(pts), pts, is_key)

    closed = timeline([0, 2, 1, 3, 5, 4, 6, 8, 7], keys=[0, 3, 6])
    assert closed.has_closed_groups
    assert groups_to_decode(closed, [1, 7]) == [(0, 2), (6, 8)]
    assert groups_to_decode(closed, [2, 3]) == [(0, 1), (3, 3)]
    assert groups_to_decode(closed, [1, 3]) == [(0, 3)]
    assert groups_to_decode(closed, [5]) == [(3, 4)]
    # Frames 2 and 5 are decoded after the key frames 3 and 6, and need the group before.
    opened = timeline([0, 1, 3, 2, 4, 6, 5, 7], keys=[0, 3, 6])
    assert not opened.has_closed_groups
    assert groups_to_decode(opened, [2]) == [(0, 3)]
    assert groups_to_decode(opened, [3]) == [(2, 2)]
    assert groups_to_decode(opened, [1, 7]) == [(0, 1), (5, 7)]
    no_key_first = timeline([0, 1, 2, 3], keys=[2])
    assert groups_to_decode(no_key_first, [1]) == [(0, 1)]


def test_display_times_start_where_a_player_starts(folder: Path) -> None:
    # The first frame of this file is shown 76 ms after the container's zero, which is also where its clock starts.
    assert read_timeline(str(folder / "uneven.mkv")).times[0] == 0.0
    plain = read_timeline(str(folder / "plain.mp4"))
    assert plain.times == pytest.approx(np.arange(120) / 25)
    assert plain.duration == pytest.approx(4.8)


TORCHCODEC_PROGRAM = """
import json, sys
from tests.video_files import number_of
from videochat_r1.errors import VideoError
from videochat_r1.video import backends
from videochat_r1.video.backends import decode_with_torchcodec
from videochat_r1.video.timeline import read_timeline
wanted, *paths = json.loads(sys.argv[1])
for path in paths:
    try:
        print(json.dumps([number_of(image) for image in decode_with_torchcodec(path, read_timeline(path), wanted, 1)]))
    except VideoError as error:
        print(json.dumps(str(error)))
"""


def test_torchcodec_gives_the_same_frames_or_none(folder: Path, tmp_path: Path, project_root: Path) -> None:
    """With the FFmpeg libraries that PyAV brings, under the names that torchcodec looks for."""
    libraries = list((Path(av.__file__).parent.parent / "av.libs").glob("*.so.*"))
    if importlib.util.find_spec("torchcodec") is None or not libraries:
        pytest.skip("needs torchcodec, and PyAV's own FFmpeg libraries")
    for library in libraries:
        plain = re.sub(r"-[0-9a-f]{8}(?=\.so)", "", library.name)
        (tmp_path / re.sub(r"(\.so\.\d+)\..*", r"\1", plain)).symlink_to(library)
    pictures = [numbered_image(number)[:, ::-1] for number in range(120)]
    mirror = (-1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    mirrored = write_pictures(tmp_path / "mirrored.mov", pictures, codec="mjpeg", formats=["yuvj420p"], matrix=mirror)
    names = ("plain.mp4", "open_groups.mkv", "uneven.mp4", "vp8.webm", "b_frames.avi")
    paths = [str(mirrored), *(str(folder / name) for name in names)]
    done = subprocess.run(
        [sys.executable, "-c", TORCHCODEC_PROGRAM, json.dumps([WANTED, *paths])],
        cwd=project_root,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *right, avi = (json.loads(line) for line in done.stdout.splitlines())
    assert right == [WANTED] * 5
    assert "pyav" in avi  # its frames lie elsewhere than their times say


def test_torchcodec_that_cannot_be_used_names_the_mend(folder: Path) -> None:
    path = str(folder / "plain.mp4")
    try:
        images = list(decode_with_torchcodec(path, read_timeline(path), [7], 1))
    except ConfigError as error:
        assert "FFmpeg's shared libraries" in str(error) and "choose backend: pyav or decord" in str(error)
    else:
        assert number_of(images[0]) == 7


@pytest.mark.parametrize("name", ["ffmpeg", "nowhere.decoders:decode", "videochat_r1.video.backends:decode"])
def test_unknown_backend_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="backend"):
        decode(SamplingRequest(Video(path=str(folder / "plain.mp4")), backend=name))


# --- real videos ------------------------------------------------------------------------------------------------------

REAL = ("charades_sta/OHOFG.mp4", "misc/1.mp4", "misc/2.avi", "misc/3.mp4", "misc/4.mp4")


def _displayed_by_reading_everything(path: Path, times: tuple[float, ...]) -> list[NDArray[np.uint8]]:
    shown: list[NDArray[np.uint8] | None] = [None] * len(times)
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        for number, frame in enumerate(container.decode(video=0)):
            image = None
            # AVI stores no display times.
            seconds = number / rate if path.suffix == ".avi" else frame.time
            for k, time in enumerate(times):
                if seconds <= time + 1e-6 or shown[k] is None:
                    image = frame.to_ndarray(format="rgb24") if image is None else image
                    shown[k] = image
    return [image for image in shown if image is not None]


@pytest.mark.parametrize("name", REAL)
def test_real_videos_are_the_same_through_every_backend(shared_dir: Path, name: str) -> None:
    video = Video(path=str(shared_dir / "videos" / name))
    requests = [SamplingRequest(video, max_frames=12, backend=backend) for backend in ("decord", "pyav")]
    (plan, decord), (_, pyav) = (decode(request) for request in requests)
    truth = _displayed_by_reading_everything(Path(str(video.path)), plan.times)
    assert len(truth) == len(plan.times)
    for k, (one, other) in enumerate(zip(decord, pyav, strict=True)):
        # Two builds of FFmpeg may round a colour differently.
        assert np.abs(one.astype(int) - other).max() <= 2
        assert np.abs(other.astype(int) - truth[plan.image_of.index(k)]).max() <= 2


def test_avi_lasts_as_long_as_its_header_says(shared_dir: Path) -> None:
    info = probe(Video(path=str(shared_dir / "videos" / "misc/2.avi")))
    assert info.num_frames == 270 and info.fps == pytest.approx(359 / 12) and info.duration == pytest.approx(9.02507)


def test_charades_video_of_uneven_rate(shared_dir: Path) -> None:
    video = Video(path=str(shared_dir / "videos" / REAL[0]))
    frames = load_frames(video, VideoBudget(), factor=28)
    assert frames.duration == pytest.approx(35.14, abs=0.005) and frames.original_size == (640, 360)
    assert frames.pixels.shape == (70, 3, 196, 364) and frames.timestamps[-1] == 34.5
    clip = load_frames(Video(path=video.path, end=4.0), VideoBudget(max_pixels=20 * 28 * 28, backend="pyav"), factor=28)
    assert clip.timestamps == frames.timestamps[:8]
    first = load_frames(video, VideoBudget(max_pixels=20 * 28 * 28), times=frames.timestamps[:8], factor=28)
    assert torch.equal(clip.pixels, first.pixels)
