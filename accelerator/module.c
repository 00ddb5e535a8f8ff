/* transports._accelerator: what a profile has shown to be slow in Python, and nothing else.
 *
 * Everything here has a twin in Python that does the same, and runs where this module is missing, or where the
 * environment variable TIDEGATE_PURE_PYTHON is set to anything but nothing.
 */
#include "accelerator.h"

#include <stdlib.h>

static PyMethodDef functions[] = {
    {"scan_frames", FASTCALL(accelerator_scan_frames), METH_FASTCALL,
     "scan_frames(data, start, max_message_bytes, messages) -> int\n\nSee transports.protocol.frames.scan_frames."},
    {"scan_values", FASTCALL(accelerator_scan_values), METH_FASTCALL,
     "scan_values(data, start, max_string_bytes, left_out, values) -> int\n\nSee gateway.brokers.resp.scan_values."},
    {"send", FASTCALL(accelerator_send), METH_FASTCALL,
     "send(fd, data) -> int\n\nThe bytes that the socket took at once; 0 also where it took none because of an error."},
    {"send_each", FASTCALL(accelerator_send_each), METH_FASTCALL,
     "send_each(fds, data) -> list[tuple[int, int]]\n\n"
     "Send to several sockets; the index and the bytes taken of each that did not take all."},
    {"unpack_fields", FASTCALL(accelerator_unpack_fields), METH_FASTCALL,
     "unpack_fields(data, shape) -> tuple | None\n\n"
     "The array of MessagePack that data is, whose items are, by the characters of shape: u an unsigned integer, s text,\n"
     "S text or nil, b bytes, B bytes or nil, t an array of text, d one of bytes, e an empty one. None for anything else."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "transports._accelerator",
    .m_doc = "Parts of transports and gateway, compiled.",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__accelerator(void)
{
    const char *is_pure = getenv("TIDEGATE_PURE_PYTHON");
    if (is_pure != NULL && is_pure[0] != '\0') {
        PyErr_SetString(PyExc_ImportError, "the accelerator is switched off by TIDEGATE_PURE_PYTHON");
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && accelerator_add_eager(module) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
