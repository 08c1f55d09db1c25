"""An artifact: manifest (what it says of itself), directory (the whole), folders and files (that
appear whole or not at all), probes (it proves itself), tensorrt_plan and gpu (plans beside it)."""
