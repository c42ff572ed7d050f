"""The kernels' tests import their twins and builders as plain modules of this folder."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
