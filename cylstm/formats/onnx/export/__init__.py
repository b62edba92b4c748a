"""Writing a graph as an ONNX model.

``layers.py`` lists a function for each kind of layer, which adds operators of ONNX to a `Nodes`; ``write.py`` puts a
whole network together and writes the file. What ONNX cannot say is refused with the layer's name and the reason.
"""
