"""Does the initializer decide whether a network ported from Keras converges? network, starts -> runs -> results."""
