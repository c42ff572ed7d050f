"""The ingest kernels' fuzz targets share the builders of tests/kernels."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kernels"))
sys.path.insert(0, str(Path(__file__).parent))
