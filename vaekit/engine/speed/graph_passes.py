"""What is done to a graph before torch's compiler turns it into kernels. Importing this loads the compiler."""

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph


class ConvertBeforeTransposing(CustomGraphPass):
    """Takes conversions of a matrix's dtype in front of its transposition.

    In low precision the gradient of a weight is a matrix product that is transposed, converted, and transposed again.
    A conversion becomes a kernel that writes rows: between the two it writes a transposed copy, which another kernel
    turns around. In front of them both transpositions vanish.
    """

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place."""
        convert, permute = torch.ops.prims.convert_element_type.default, torch.ops.aten.permute.default
        for node in graph.find_nodes(op="call_function", target=convert):
            source = node.args[0]
            if source.target is not permute or len(source.args[1]) != 2:
                continue
            with graph.inserting_before(node):
                first = graph.call_function(convert, (source.args[0], node.args[1]))
                second = graph.call_function(permute, (first, source.args[1]))
            first.meta["val"] = source.args[0].meta["val"].to(node.args[1])
            second.meta["val"] = first.meta["val"].permute(source.args[1])
            node.replace_all_uses_with(second)
            graph.erase_node(node)

    def uuid(self) -> bytes:
        """What the compiler's cache knows this pass by."""
        return get_hash_for_files((__file__,))
