// The bindings are compiled once for all instruction sets; this gives each module the init function of its name.
#include <Python.h>

PyMODINIT_FUNC PyInit__native();

PyMODINIT_FUNC MINICNN_INIT() { return PyInit__native(); }
