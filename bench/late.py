"""By how much the UTC on a tape is later than the camera's own: a simulated camera runs by this machine's clock, and its sender reports say it.

UTC on a tape is that of arrival, and what nobody watches is fetched from its socket in ticks; so it may be later by a tick, and whatever is
measured by it would come out shorter by as much.
"""

from statistics import median

from bench.load import Load
from bench.site import Site
from bench.subjects import status
from recorder.base.media import NS
from storage.reader import TrackReader

LOOK_NS = 600 * NS            # one report a minute is kept, the first before the first picture
ROW_NS = 5 * NS               # in which a row begins or goes on


class Ages(list[float]):
    """Ages of pictures in ms since their cameras sent them. `late_ms` by camera; a camera that is not in it is taken at the tape's word."""

    def __init__(self, late_ms: dict[str, float]) -> None:
        super().__init__()
        self._late_ms = late_ms

    def came(self, camera: str, age_ms: float) -> None:
        """A picture came, so old by its UTC on the tape."""
        self.append(age_ms + self._late_ms.get(camera, 0.0))


def late_ms(site: Site, load: Load) -> dict[str, float]:
    """By camera id, in ms. RuntimeError for a camera that has sent no report."""
    cameras = {name: int(camera["number"]) for slot in status(site, load) for name, camera in slot["cameras"].items()}
    store = site.store()
    try:
        return {name: _late_ms(store.track(number, "main")) for name, number in cameras.items()}
    finally:
        store.close()


def _late_ms(reader: TrackReader) -> float:
    end_ns = reader.edges().visible_end_ns
    found = []
    for report in reader.evidence(end_ns - LOOK_NS, end_ns).reports:
        rows = reader.rows(report.arrival_ns, report.arrival_ns + ROW_NS).rows
        if len(rows) and rows["media_dur"][0]:
            media_ns = int(rows["wall_dur_us"][0]) * 1000 / int(rows["media_dur"][0])
            wall_ns = int(rows["t_ns"][0]) + round((report.pts - int(rows["media_pts"][0])) * media_ns)
            found.append((wall_ns - report.ntp_ns) / 1e6)
    if not found:
        raise RuntimeError(f"{reader.where} has no sender report of the last ten minutes")
    return median(found)
