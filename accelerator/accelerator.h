/* What the files of the accelerator share. Each twin in Python is named where the function is defined. */
#ifndef TIDEGATE_ACCELERATOR_H
#define TIDEGATE_ACCELERATOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *accelerator_scan_frames(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *accelerator_scan_values(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *accelerator_send(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *accelerator_send_each(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *accelerator_unpack_fields(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* Adds EagerStarter and Suspended; -1 with an exception. */
int accelerator_add_eager(PyObject *module);

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

#endif
