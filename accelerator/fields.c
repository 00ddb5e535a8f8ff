/* Arrays of MessagePack whose items are known beforehand: what nodes send one another.
 *
 * Twin: the reading in gateway.envelope, which does it without this as well. Whatever is not exactly of the shape, or
 * not in the usual form, is left to that: it knows what is wrong.
 */
#include "accelerator.h"

#include <stdint.h>

enum { MAX_ITEMS = 1000 };

typedef struct {
    const unsigned char *at;
    const unsigned char *end;
} Cursor;

/* A big-endian number of `size` bytes; 0 where it is not whole. */
static int
take_number(Cursor *cursor, int size, uint64_t *number)
{
    if (cursor->end - cursor->at < size) {
        return 0;
    }
    *number = 0;
    for (int i = 0; i < size; i++) {
        *number = (*number << 8) | *cursor->at++;
    }
    return 1;
}

/* The length of an item, behind one of the codes `first` to `first + 2`, which say how many bytes it has itself; or, with
 * `fixed_bits`, within the code `fixed`. 0 where there is another code. */
static int
take_length(Cursor *cursor, unsigned char first, unsigned char fixed, unsigned char fixed_bits, uint64_t *length)
{
    if (cursor->at == cursor->end) {
        return 0;
    }
    const unsigned char code = *cursor->at++;
    if (fixed_bits != 0 && (code & (unsigned char)~fixed_bits) == fixed) {
        *length = code & fixed_bits;
        return 1;
    }
    return code >= first && code <= first + 2 && take_number(cursor, 1 << (code - first), length);
}

static int
is_nil(Cursor *cursor)
{
    if (cursor->at == cursor->end || *cursor->at != 0xC0) {
        return 0;
    }
    cursor->at++;
    return 1;
}

static PyObject *
take_uint(Cursor *cursor)
{
    if (cursor->at == cursor->end) {
        return NULL;
    }
    const unsigned char code = *cursor->at++;
    uint64_t number = code;
    if (code > 0x7F && (code < 0xCC || code > 0xCF || !take_number(cursor, 1 << (code - 0xCC), &number))) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(number);
}

static PyObject *
take_text(Cursor *cursor)
{
    uint64_t size;
    if (!take_length(cursor, 0xD9, 0xA0, 0x1F, &size) || size > (uint64_t)(cursor->end - cursor->at)) {
        return NULL;
    }
    const char *text = (const char *)cursor->at;
    cursor->at += size;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, NULL);
}

static PyObject *
take_bytes(Cursor *cursor)
{
    uint64_t size;
    if (!take_length(cursor, 0xC4, 0, 0, &size) || size > (uint64_t)(cursor->end - cursor->at)) {
        return NULL;
    }
    const char *bytes = (const char *)cursor->at;
    cursor->at += size;
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
}

static PyObject *
take_items(Cursor *cursor, PyObject *(*take)(Cursor *), uint64_t most)
{
    if (cursor->at == cursor->end) {
        return NULL;
    }
    const unsigned char code = *cursor->at++;
    uint64_t count = code & 0x0F;
    if ((code & 0xF0) != 0x90 && (code != 0xDC || !take_number(cursor, 2, &count))) {
        return NULL;
    }
    if (count > most) {
        return NULL;
    }
    PyObject *items = PyTuple_New((Py_ssize_t)count);
    for (uint64_t i = 0; items != NULL && i < count; i++) {
        PyObject *item = take(cursor);
        if (item == NULL) {
            Py_CLEAR(items);
            break;
        }
        PyTuple_SET_ITEM(items, (Py_ssize_t)i, item);
    }
    return items;
}

static PyObject *
take_item(Cursor *cursor, char shape)
{
    switch (shape) {
    case 'u':
        return take_uint(cursor);
    case 's':
        return take_text(cursor);
    case 'b':
        return take_bytes(cursor);
    case 'S':
        return is_nil(cursor) ? Py_NewRef(Py_None) : take_text(cursor);
    case 'B':
        return is_nil(cursor) ? Py_NewRef(Py_None) : take_bytes(cursor);
    case 't':
        return take_items(cursor, take_text, MAX_ITEMS);
    case 'd':
        return take_items(cursor, take_bytes, MAX_ITEMS);
    case 'e':
        return take_items(cursor, take_text, 0);
    default:
        PyErr_SetString(PyExc_ValueError, "no such shape");
        return NULL;
    }
}

PyObject *
accelerator_unpack_fields(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[1]) || PyBytes_GET_SIZE(args[1]) > 15) {
        PyErr_SetString(PyExc_TypeError, "unpack_fields(data: bytes, shape: bytes), a shape of up to 15 items");
        return NULL;
    }
    const char *shape = PyBytes_AS_STRING(args[1]);
    const Py_ssize_t length = PyBytes_GET_SIZE(args[1]);
    Cursor cursor = {(const unsigned char *)PyBytes_AS_STRING(args[0]), NULL};
    cursor.end = cursor.at + PyBytes_GET_SIZE(args[0]);
    if (cursor.at == cursor.end || *cursor.at++ != (0x90 | length)) {
        Py_RETURN_NONE;
    }
    PyObject *fields = PyTuple_New(length);
    for (Py_ssize_t i = 0; fields != NULL && i < length; i++) {
        PyObject *item = take_item(&cursor, shape[i]);
        if (item == NULL) {
            Py_CLEAR(fields);
            break;
        }
        PyTuple_SET_ITEM(fields, i, item);
    }
    if (fields != NULL && cursor.at != cursor.end) {
        Py_CLEAR(fields);
    }
    if (fields == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return fields;
}
