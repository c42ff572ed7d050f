"""What ffmpeg's command line says of a file that it decodes."""

import subprocess
from pathlib import Path

AS_THEY_ARE = ("-fps_mode", "passthrough", "-enc_time_base:v", "-1")


def complaints(file: Path, streams: str = "0", before: tuple[str, ...] = ()) -> str:
    """All that ffmpeg warns of while it decodes these streams of a file, `before` being options of its input; "" if all is well.

    Times stay in the file's own ticks: in those of the guessed frame rate, two pictures that came close together would share one, and the
    null muxer would complain of that. Raises CalledProcessError if ffmpeg fails.
    """
    run = subprocess.run(["ffmpeg", "-v", "warning", "-nostdin", *before, "-i", file, "-map", streams, *AS_THEY_ARE, "-f", "null", "-"],
                         capture_output=True, text=True, timeout=300, check=True)
    return run.stderr
