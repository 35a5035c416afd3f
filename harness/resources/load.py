"""How busy a worker's machine is, under the names that MLflow's system metrics have."""

from harness.resources.device import busy_percent, gpu_memory, is_gpu

PREFIX = "system/"
MB = 1e6  # MLflow's megabyte


class MachineLoad:
    """The load of the machine that this process runs on, all its processes together."""

    def __init__(self, device: str) -> None:
        """Begin to watch.

        Args:
            device: torch device of the trial; its own GPU is gpu_0, whatever the machine has.
        """
        import psutil

        self._gpu = is_gpu(device)
        psutil.cpu_percent()  # the first call begins the time that the next one is about

    def sample(self) -> dict[str, float]:
        """Metrics by key: cores since the last sample, memory and the trial's GPU now."""
        import psutil

        memory = psutil.virtual_memory()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MB,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
        }
        if self._gpu:
            found |= _gpu()
        return {f"{PREFIX}{name}": float(value) for name, value in found.items()}


def _gpu() -> dict[str, float]:
    """Memory of the trial's GPU and, where NVIDIA's Python package is there, how busy it is."""
    free, total = gpu_memory()
    found = {
        "gpu_0_memory_usage_megabytes": (total - free) / MB,
        "gpu_0_memory_usage_percentage": 100 * (total - free) / total,
    }
    busy = busy_percent()
    if busy is not None:
        found["gpu_0_utilization_percentage"] = busy
    return found
