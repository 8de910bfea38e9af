"""Converts a torch module to a `Graph`: traced by torch.fx, batch norms folded, activations fused.

Supported: Conv2d (groups 1 or depthwise), BatchNorm2d after Conv2d, Linear, SiLU, Sigmoid, ReLU,
ReLU6, Identity, Dropout, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Flatten of a 1x1 map, Upsample
(nearest), ZeroPad2d, and the modules of `tools.quantize.graph`; `torch.cat(..., 1)`, `+`, `*`,
`torch.flatten`. Anything else raises NotImplementedError. The module returns one tensor or a dict
of named tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tools.quantize.graph import (
    INPUT,
    Channels,
    FirstPixel,
    Graph,
    HalvingConv2d,
    Node,
    SpaceToDepth,
)

_OWN = (Channels, FirstPixel, HalvingConv2d, SpaceToDepth)
_SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.BatchNorm2d)
_FUNCTIONS: dict[Any, str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    operator.mul: "mul",
    torch.mul: "mul",
    torch.sigmoid: "logistic",
    functional.relu: "relu",
    functional.relu6: "relu6",
    torch.relu: "relu",
    torch.flatten: "reshape",
    torch.cat: "concat",
}
_KEYWORDS = frozenset({"dim", "start_dim", "inplace"})  # of functions; operands have none
_FROM_THE_SECOND_AXIS: tuple[Any, ...] = (((1,), {}), ((), {"start_dim": 1}))


class _Tracer(fx.Tracer):
    """Traces the modules of `tools.quantize.graph` as one operator each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _OWN) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> Graph:
    """Return the module's graph with copies of its weights, in inference mode.

    Raises NotImplementedError naming an unsupported operator, and TypeError when the module's
    control flow depends on its data.
    """
    # torch.fx traces into the root module, so a single layer must be wrapped.
    root = nn.Sequential(module) if isinstance(module, tuple(_LEAVES)) else module
    return _Builder(root.eval()).build()


class _Builder:
    """Builds the graph of one traced module; nodes are appended in execution order."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = dict(module.named_modules())
        self._traced = _Tracer().trace(module)
        self._nodes: list[Node] = []
        self._made: dict[fx.Node, str] = {}
        self._layers: dict[str, nn.Conv2d | nn.Linear] = {}
        self._outputs: dict[str, str] = {}

    def build(self) -> Graph:
        for node in self._traced.nodes:
            self._add(node)
        graph = Graph(_fuse_activations(self._nodes, self._outputs), self._outputs)
        for name, layer in self._layers.items():
            bias = torch.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias
            graph.weights[name] = nn.Parameter(layer.weight.detach().clone())
            graph.biases[name] = nn.Parameter(bias.detach().clone())
        return graph

    def _add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._append(node, Node(INPUT, "input"))
        elif node.op == "output":
            self._outputs = self._named_outputs(node.args[0])
        elif node.op == "call_module":
            self._add_module(node, self._modules[str(node.target)])
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            self._add_function(node, _FUNCTIONS[node.target])
        else:
            raise NotImplementedError(f"{node.op} {node.target} at {node.name}")

    def _named_outputs(self, result: Any) -> dict[str, str]:
        if isinstance(result, dict):
            return {name: self._made[node] for name, node in result.items()}
        return {"output": self._made[result]}

    def _append(self, node: fx.Node, made: Node) -> None:
        self._nodes.append(made)
        self._made[node] = made.name

    def _add_function(self, node: fx.Node, kind: str) -> None:
        unknown = node.kwargs.keys() - _KEYWORDS
        if unknown:  # such as `alpha` of torch.add
            raise NotImplementedError(f"{kind} with {', '.join(sorted(unknown))}= at {node.name}")
        if kind == "concat":
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            if axis != 1:
                raise NotImplementedError(f"concatenation along axis {axis} at {node.name}")
        if kind == "reshape" and (node.args[1:], node.kwargs) not in _FROM_THE_SECOND_AXIS:
            raise NotImplementedError(f"a flatten that does not begin at axis 1 at {node.name}")
        operands = node.args[0] if kind == "concat" else node.args
        sources = [self._made[item] for item in operands if isinstance(item, fx.Node)]  # type: ignore[union-attr]
        if kind in ("add", "mul") and len(sources) != 2:
            raise NotImplementedError(f"{kind} with a constant at {node.name}")
        self._append(node, Node(node.name, kind, tuple(sources)))

    def _add_module(self, node: fx.Node, module: nn.Module) -> None:
        operand = self._made[node.all_input_nodes[0]]
        if isinstance(module, nn.BatchNorm2d):
            self._fold(node, operand, module)
        if isinstance(module, _SKIPPED):
            self._made[node] = operand
        elif isinstance(module, nn.SiLU):
            gate = Node(f"{node.name}_gate", "logistic", (operand,))
            self._nodes.append(gate)
            self._append(node, Node(node.name, "mul", (operand, gate.name)))
        else:
            if isinstance(module, nn.Conv2d | nn.Linear):
                self._layers[node.name] = module
            self._append(node, replace(_leaf(node.name, module), inputs=(operand,)))

    def _fold(self, node: fx.Node, operand: str, norm: nn.BatchNorm2d) -> None:
        layer = self._layers.get(operand)
        if not isinstance(layer, nn.Conv2d):
            raise NotImplementedError(f"a batch norm that follows no convolution, after {operand}")
        same = {item for item, name in self._made.items() if name == operand}
        if {reader for item in same for reader in item.users} - same != {node}:
            raise NotImplementedError(f"a batch norm beside another use of {operand}")
        self._layers[operand] = fuse_conv_bn_eval(layer, norm)


def _leaf(name: str, module: nn.Module) -> Node:
    """Return the node of a module with one operand; its `inputs` are not set yet."""
    for kind, make in _LEAVES.items():
        if isinstance(module, kind):
            made: Node | None = make(name, module)
            if made is not None:
                return made
    raise NotImplementedError(f"{module} at {name}")


def _convolution(name: str, module: nn.Conv2d) -> Node | None:
    depthwise = module.groups > 1
    if depthwise and module.groups != module.in_channels:
        return None
    if _pair(module.dilation) != (1, 1) or isinstance(module.padding, str):
        return None
    if module.padding_mode != "zeros":
        return None
    kind = "depthwise" if depthwise else "conv"
    kernel, stride, padding = (
        _pair(item) for item in (module.kernel_size, module.stride, module.padding)
    )
    after = (1, 1) if isinstance(module, HalvingConv2d) else (0, 0)
    return Node(name, kind, (), kernel, stride, padding, after)


def _max_pool(name: str, module: nn.MaxPool2d) -> Node | None:
    if module.ceil_mode or module.return_indices or _pair(module.dilation) != (1, 1):
        return None
    kernel, stride, padding = (
        _pair(item) for item in (module.kernel_size, module.stride, module.padding)
    )
    return Node(name, "max_pool", (), kernel, stride, padding)


def _average_pool(name: str, module: nn.AvgPool2d) -> Node | None:
    if module.ceil_mode or module.divisor_override or _pair(module.padding) != (0, 0):
        return None
    return Node(name, "average_pool", (), _pair(module.kernel_size), _pair(module.stride))


def _flatten(name: str, module: nn.Flatten) -> Node | None:
    return Node(name, "reshape") if (module.start_dim, module.end_dim) == (1, -1) else None


def _zero_pad(name: str, module: nn.ZeroPad2d) -> Node | None:
    left, right, top, bottom = module.padding
    symmetric = left == right and top == bottom
    return Node(name, "pad", padding=(top, left)) if symmetric else None


def _mean(name: str, module: nn.AdaptiveAvgPool2d) -> Node | None:
    return Node(name, "mean") if module.output_size in (1, (1, 1)) else None


def _resize(name: str, module: nn.Upsample) -> Node | None:
    if module.mode != "nearest" or module.scale_factor is None:
        return None
    factor = _pair(module.scale_factor)
    is_whole = module.scale_factor in (factor, factor[0])
    return Node(name, "resize", kernel=factor) if is_whole else None


# Each returns None for unsupported settings.
_LEAVES: dict[type[nn.Module], Callable[[str, Any], Node | None]] = {
    nn.Conv2d: _convolution,
    nn.Linear: lambda name, _module: Node(name, "linear"),
    nn.Sigmoid: lambda name, _module: Node(name, "logistic"),
    nn.ReLU6: lambda name, _module: Node(name, "relu6"),
    nn.ReLU: lambda name, _module: Node(name, "relu"),
    nn.Flatten: _flatten,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _mean,
    nn.Upsample: _resize,
    nn.ZeroPad2d: _zero_pad,
    Channels: lambda name, module: Node(name, "channels", channels=(module.first, module.last)),
    FirstPixel: lambda name, _module: Node(name, "first_pixel"),
    SpaceToDepth: lambda name, module: Node(
        name, "space_to_depth", kernel=(module.block, module.block)
    ),
}


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, tuple):
        return int(value[0]), int(value[1])
    return int(value), int(value)


def _fuse_activations(nodes: list[Node], outputs: dict[str, str]) -> list[Node]:
    """Fuse each ReLU into the preceding operator if nothing else reads that operator's output.

    The fused operator keeps its name, so references to the ReLU are changed to it.
    """
    users = Graph(nodes, outputs).users()
    fused: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        before = fused.get(inputs[0]) if inputs else None
        if node.kind in ("relu", "relu6") and before and _can_fuse(before, users, outputs):
            fused[before.name] = replace(before, activation=node.kind)
            renamed[node.name] = before.name
        else:
            fused[node.name] = replace(node, inputs=inputs)
    for name, source in outputs.items():
        outputs[name] = renamed.get(source, source)
    return list(fused.values())


def _can_fuse(node: Node, users: dict[str, list[str]], outputs: dict[str, str]) -> bool:
    fusable = node.kind in ("conv", "depthwise", "linear", "add") and not node.activation
    return fusable and len(users[node.name]) == 1 and node.name not in outputs.values()
