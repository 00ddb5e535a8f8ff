/* WebSocket frames as nearly all of them come: masked, whole, uncompressed, one to a message.
 *
 * Twin: transports.protocol.frames.scan_frames. Whatever is not such a frame is left to FrameParser, which knows
 * every rule of RFC 6455 and the refusal that belongs to it; so nothing is refused here.
 */
#include "accelerator.h"

#include <stdint.h>
#include <string.h>

enum { WHOLE_TEXT = 0x81, WHOLE_BINARY = 0x82, MASKED = 0x80, OPCODE = 0x0F };

/* XOR `size` bytes with the mask that repeats every four. Returns the OR of all results: its top bits tell
 * whether all of it is ASCII. */
static uint64_t
unmask(unsigned char *to, const unsigned char *from, Py_ssize_t size, const unsigned char *mask)
{
    uint32_t half;
    memcpy(&half, mask, 4);
    const uint64_t whole = ((uint64_t)half << 32) | half;
    uint64_t seen = 0;
    Py_ssize_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= whole;
        seen |= word;
        memcpy(to + i, &word, 8);
    }
    for (; i < size; i++) {
        to[i] = from[i] ^ mask[i & 3];
        seen |= to[i];
    }
    return seen;
}

static const uint64_t NOT_ASCII = UINT64_C(0x8080808080808080);

/* The payload of a text frame; NULL without an exception where it is not UTF-8. */
static PyObject *
text_of(const unsigned char *from, Py_ssize_t size, const unsigned char *mask)
{
    PyObject *text = PyUnicode_New(size, 127);
    if (text == NULL) {
        return NULL;
    }
    /* The buffer takes any bytes; the object is given away only where they are ASCII. */
    unsigned char *bytes = PyUnicode_1BYTE_DATA(text);
    if (size == 0 || !(unmask(bytes, from, size, mask) & NOT_ASCII)) {
        return text;
    }
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)bytes, size, NULL);
    Py_DECREF(text);
    if (decoded == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
    }
    return decoded;
}

static PyObject *
bytes_of(const unsigned char *from, Py_ssize_t size, const unsigned char *mask)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL && size > 0) {
        unmask((unsigned char *)PyBytes_AS_STRING(bytes), from, size, mask);
    }
    return bytes;
}

/* Length of the head of the frame at `frame`, of which `left` bytes are there, and of its payload; 0 where it is not
 * whole, or has not the shortest form of its length. */
static Py_ssize_t
measure(const unsigned char *frame, Py_ssize_t left, Py_ssize_t *size)
{
    const unsigned char length = frame[1] & 0x7F;
    if (length < 126) {
        *size = length;
        return 6;
    }
    if (length == 126) {
        if (left < 8) {
            return 0;
        }
        *size = ((Py_ssize_t)frame[2] << 8) | frame[3];
        return *size < 126 ? 0 : 8;
    }
    if (left < 14) {
        return 0;
    }
    uint64_t wide = 0;
    for (int i = 2; i < 10; i++) {
        wide = (wide << 8) | frame[i];
    }
    if (wide < 65536 || wide > (uint64_t)PY_SSIZE_T_MAX) {
        return 0;
    }
    *size = (Py_ssize_t)wide;
    return 14;
}

PyObject *
accelerator_scan_frames(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_CheckExact(args[0]) || !PyList_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "scan_frames(data: bytes, start: int, max_message_bytes: int, messages: list)");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    if (start == -1 && PyErr_Occurred()) {
        return NULL;
    }
    const Py_ssize_t max_message_bytes = PyLong_AsSsize_t(args[2]);
    if (max_message_bytes == -1 && PyErr_Occurred()) {
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    const Py_ssize_t end = PyBytes_GET_SIZE(args[0]);
    while (start >= 0 && end - start >= 6) {
        const unsigned char *frame = data + start;
        if ((frame[0] != WHOLE_TEXT && frame[0] != WHOLE_BINARY) || !(frame[1] & MASKED)) {
            break;
        }
        Py_ssize_t size;
        const Py_ssize_t head = measure(frame, end - start, &size);
        if (head == 0 || size > max_message_bytes || size > end - start - head) {
            break;
        }
        const unsigned char *mask = frame + head - 4;
        PyObject *payload = frame[0] == WHOLE_TEXT ? text_of(frame + head, size, mask) : bytes_of(frame + head, size, mask);
        if (payload == NULL) {
            if (PyErr_Occurred()) {
                return NULL;
            }
            break;
        }
        PyObject *message = Py_BuildValue("iN", frame[0] & OPCODE, payload);
        if (message == NULL) {
            return NULL;
        }
        const int failed = PyList_Append(args[3], message);
        Py_DECREF(message);
        if (failed) {
            return NULL;
        }
        start += head + size;
    }
    return PyLong_FromSsize_t(start);
}
