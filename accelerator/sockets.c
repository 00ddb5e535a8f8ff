/* Writing to sockets without a transport between, and without letting go of the interpreter.
 *
 * The sockets are non-blocking, so a call takes microseconds; os.write would let another thread have the
 * interpreter at each of them, and wait for it to come back. Twin: the transport's own write.
 */
#include "accelerator.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: the loops set SO_NOSIGPIPE, or Python ignores the signal */
#endif

/* Errors are not told: the transport meets them too, and knows what to do. */
static Py_ssize_t
send_to(int fd, const char *data, Py_ssize_t size)
{
    ssize_t sent;
    do {
        sent = send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? 0 : (Py_ssize_t)sent;
}

static int
descriptor_of(PyObject *number)
{
    const long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd < 0 || fd > INT_MAX) {
        PyErr_SetString(PyExc_ValueError, "not a file descriptor");
        return -1;
    }
    return (int)fd;
}

PyObject *
accelerator_send(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "send(fd: int, data: bytes)");
        return NULL;
    }
    const int fd = descriptor_of(args[0]);
    if (fd < 0) {
        return NULL;
    }
    return PyLong_FromSsize_t(send_to(fd, PyBytes_AS_STRING(args[1]), PyBytes_GET_SIZE(args[1])));
}

PyObject *
accelerator_send_each(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0]) || !PyList_CheckExact(args[1]) ||
        PyList_GET_SIZE(args[0]) != PyList_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_TypeError, "send_each(fds: list[int], data: list[bytes]), both of the same length");
        return NULL;
    }
    PyObject *unfinished = PyList_New(0);
    if (unfinished == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(args[0]); i++) {
        PyObject *data = PyList_GET_ITEM(args[1], i);
        if (!PyBytes_CheckExact(data)) {
            PyErr_SetString(PyExc_TypeError, "send_each: data must be bytes");
            goto failed;
        }
        const int fd = descriptor_of(PyList_GET_ITEM(args[0], i));
        if (fd < 0) {
            goto failed;
        }
        const Py_ssize_t sent = send_to(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
        if (sent == PyBytes_GET_SIZE(data)) {
            continue;
        }
        PyObject *entry = Py_BuildValue("nn", i, sent);
        const int is_lost = entry == NULL || PyList_Append(unfinished, entry);
        Py_XDECREF(entry);
        if (is_lost) {
            goto failed;
        }
    }
    return unfinished;

failed:
    Py_DECREF(unfinished);
    return NULL;
}
