"""One step: trainer (loss, optimizer, average), exponentiated, distillation, distributed."""
