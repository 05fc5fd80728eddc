"""Load a model into its runtime: ONNX Runtime, OpenVINO, ncnn or LiteRT."""

import functools
from pathlib import Path

import numpy as np

LOGITS, EMBEDDING = "logits", "embedding"


def load_onnxruntime(path: str, threads: int) -> tuple:
    """Load the model; return a function, the runtime's version and its arithmetic.

    The function takes (1, 3, S, S) and returns logits (1, classes) and the embedding (1, k), or None without one.

    Raises:
        ValueError: outputs other than these.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads slow down the other programs of a small device.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    places = find_outputs(outputs)
    return (lambda inputs: chosen(session.run(outputs, {name: inputs}), places)), onnxruntime.__version__, "f32"


def find_outputs(names: "list[str]") -> "tuple[int, int | None]":
    """Return the positions of logits and embedding by name; the only output of a model is its logits.

    Raises:
        ValueError: several outputs other than these.
    """
    if len(names) == 1:
        return 0, None
    if sorted(names) != [EMBEDDING, LOGITS]:
        raise ValueError(f"the model has the outputs {', '.join(names)}, not {LOGITS} and {EMBEDDING}")
    return names.index(LOGITS), names.index(EMBEDDING)


def chosen(made, places: "tuple[int, int | None]") -> tuple:
    """Return logits and embedding, or None, of a runtime's outputs."""
    logits, embedding = places
    return made[logits], None if embedding is None else made[embedding]


def load_openvino(path: str, threads: int) -> tuple:
    """Load the model like `load_onnxruntime`; OpenVINO itself selects bf16 or f16 on CPUs that have it."""
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino_core().compile_model(path, "CPU", config)
    arithmetic = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    known = [output.get_names() & {LOGITS, EMBEDDING} for output in compiled.outputs]
    places = find_outputs([min(names, default="") for names in known])
    return (lambda inputs: chosen(compiled([inputs]), places)), openvino.__version__, arithmetic


@functools.lru_cache(maxsize=None)
def openvino_core() -> object:
    """Return the only core of this process: a signal may crash a process that destroys several (openvino 2026.4)."""
    import openvino

    core = openvino.Core()
    # A mapped weights file that is overwritten would change the loaded model.
    core.set_property({"ENABLE_MMAP": False})
    return core


def load_ncnn(path: str, threads: int) -> tuple:
    """Load the model like `load_onnxruntime`; ncnn itself selects float16 arithmetic on Arm CPUs that have it."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    if net.load_param(path) or net.load_model(str(Path(path).with_suffix(".bin"))):
        raise ValueError("ncnn cannot load the model")
    # Without such arithmetic, ncnn stores weights of fully connected layers in float16 at most.
    arithmetic = "f16" if ncnn.cpu_support_arm_asimdhp() else "f16-weights"
    return functools.partial(run_ncnn, net), ncnn.__version__, arithmetic


def run_ncnn(net, inputs: np.ndarray) -> tuple:
    """Return the logits (1, classes) of one input (1, 3, S, S), and None for the embedding."""
    import ncnn

    extractor = net.create_extractor()
    failed = extractor.input(net.input_names()[0], ncnn.Mat(np.ascontiguousarray(inputs[0])).clone())
    code, logits = extractor.extract(net.output_names()[0])
    if failed or code or logits.empty():
        raise RuntimeError(f"ncnn failed with code {failed or code}")
    return np.array(logits).reshape(1, -1), None


def load_litert(path: str, threads: int) -> tuple:
    """Load the model like `load_onnxruntime`; LiteRT computes in float32, also with float16 weights."""
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    return functools.partial(run_litert, interpreter), ai_edge_litert.__version__, "f32"


def run_litert(interpreter, inputs: np.ndarray) -> tuple:
    """Return the logits (1, classes) of one input (1, 3, S, S), and None for the embedding."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(inputs))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), None
