"""python -m tests.gates: writes docs/occupancy.md from the module _cuda of this installation, built for 80 and 90a, and
others perhaps."""

from minicnn import _cuda, backend
from minicnn.toolchain import dotted

from . import launches, machine_code, occupancy

device = backend.device("emulated")
recorded = [launch for run in launches.RUNS for launch in launches.record(device, run).launches]
version = dotted((_cuda.cuda_version // 1000, _cuda.cuda_version % 1000 // 10))
compiled = [kernel for name in ("sm_80", "sm_90a") for kernel in machine_code.resources(_cuda.__file__, name)]
occupancy.TABLE.write_text(occupancy.table(compiled, recorded, version))
