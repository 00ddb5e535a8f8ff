/* What Redis sends, as nearly all of it comes: integers, and messages of Pub/Sub.
 *
 * Twin: gateway.brokers.resp.scan_values. Whatever is neither, or not whole, is left to RespReader.
 */
#include "accelerator.h"

#include <string.h>

enum { MAX_DIGITS = 18 };

/* Read digits and the end of their line at *at; -1 where there is something else. */
static Py_ssize_t
number_at(const char *data, Py_ssize_t end, Py_ssize_t *at)
{
    Py_ssize_t number = 0, i = *at;
    const Py_ssize_t last = end - i > MAX_DIGITS ? i + MAX_DIGITS : end;
    while (i < last && data[i] >= '0' && data[i] <= '9') {
        number = number * 10 + (data[i] - '0');
        i++;
    }
    if (i == *at || end - i < 2 || data[i] != '\r' || data[i + 1] != '\n') {
        return -1;
    }
    *at = i + 2;
    return number;
}

/* Read a string behind its dollar sign; its length, or -1 where it is not whole, or too long. */
static Py_ssize_t
string_at(const char *data, Py_ssize_t end, Py_ssize_t max_bytes, Py_ssize_t *at, const char **string)
{
    const Py_ssize_t size = number_at(data, end, at);
    if (size < 0 || size > max_bytes || end - *at < size + 2) {
        return -1;
    }
    *string = data + *at;
    *at += size + 2;
    return size;
}

static int
append(PyObject *values, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    const int failed = PyList_Append(values, value);
    Py_DECREF(value);
    return failed;
}

/* Beginnings of messages, and the first of the values that each is. */
static const struct {
    const char *head;
    Py_ssize_t size;
    const char *kind;
    Py_ssize_t kind_size;
} MESSAGES[] = {
    {"*3\r\n$7\r\nmessage\r\n$", 18, "message", 7},
    {"*3\r\n$8\r\nsmessage\r\n$", 19, "smessage", 8},
};

PyObject *
accelerator_scan_values(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[3]) || !PyList_CheckExact(args[4])) {
        PyErr_SetString(PyExc_TypeError,
                        "scan_values(data: bytes, start: int, max_string_bytes: int, left_out: bytes, values: list)");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    if (start == -1 && PyErr_Occurred()) {
        return NULL;
    }
    const Py_ssize_t max_bytes = PyLong_AsSsize_t(args[2]);
    if (max_bytes == -1 && PyErr_Occurred()) {
        return NULL;
    }
    const char *data = PyBytes_AS_STRING(args[0]);
    const Py_ssize_t end = PyBytes_GET_SIZE(args[0]);
    const char *left_out = PyBytes_AS_STRING(args[3]);
    const Py_ssize_t left_out_size = PyBytes_GET_SIZE(args[3]);
    while (start >= 0 && end - start >= 4) {
        Py_ssize_t at = start + 1;
        if (data[start] == ':') {
            const Py_ssize_t number = number_at(data, end, &at);
            if (number < 0) {
                break;
            }
            if (append(args[4], PyLong_FromSsize_t(number)) < 0) {
                return NULL;
            }
            start = at;
            continue;
        }
        const int is_sharded = end - start > 5 && data[start + 5] == '8';
        if (end - start < MESSAGES[is_sharded].size ||
            memcmp(data + start, MESSAGES[is_sharded].head, (size_t)MESSAGES[is_sharded].size) != 0) {
            break;
        }
        at = start + MESSAGES[is_sharded].size;
        const char *channel, *body;
        const Py_ssize_t channel_size = string_at(data, end, max_bytes, &at, &channel);
        if (channel_size < 0 || end - at < 1 || data[at] != '$') {
            break;
        }
        at++;
        const Py_ssize_t body_size = string_at(data, end, max_bytes, &at, &body);
        if (body_size < 0) {
            break;
        }
        start = at;
        if (left_out_size > 0 && body_size >= left_out_size && memcmp(body, left_out, (size_t)left_out_size) == 0) {
            continue;
        }
        PyObject *message = Py_BuildValue("[y#y#y#]", MESSAGES[is_sharded].kind, MESSAGES[is_sharded].kind_size,
                                          channel, channel_size, body, body_size);
        if (append(args[4], message) < 0) {
            return NULL;
        }
    }
    return PyLong_FromSsize_t(start);
}
