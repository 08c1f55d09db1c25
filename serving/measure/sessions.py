"""`python -m serving.measure.sessions DIRECTORY THREADS GRAPH ..`: prints the USS that creating the
sessions of these graphs adds, in this process that does nothing else.

The runtime itself is loaded before, with a graph of one node.
"""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from onnx import TensorProto, helper

from luminanet.artifact.directory import Artifact
from serving.measure.process import uss
from serving.runtimes.onnxruntime_cpu import OrtCpu


def main(arguments: Sequence[str]) -> int:
    directory, threads, *names = arguments
    artifact = Artifact.open(Path(directory))
    graphs = {name: artifact.read(name) for name in names}
    OrtCpu(_smallest(), int(threads), "the smallest graph")
    gc.collect()
    before = uss()
    sessions = [OrtCpu(data, int(threads), name) for name, data in graphs.items()]
    gc.collect()
    print(uss() - before)
    assert len(sessions) == len(names)
    return 0


def _smallest() -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "smallest", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
