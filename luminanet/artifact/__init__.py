"""An artifact: manifest (what it says of itself), directory and folders (on disk), probes (it
proves itself), tensorrt_plan and gpu (plans beside it)."""
