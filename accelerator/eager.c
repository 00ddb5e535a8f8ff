/* Coroutines that begin at once. Twin, and the reasons for all of it: transports.eager. */
#include "accelerator.h"

/* Of asyncio, looked up once. */
static PyObject *current_task, *enter_task, *leave_task;

/* Names of attributes and methods, made once. */
static PyObject *name_blocking, *name_callbacks, *name_cancel, *name_cancelling, *name_create_future, *name_create_task,
    *name_done, *name_log_destroy_pending, *name_set_name, *name_set_result, *name_throw;
static PyObject *spare_name, *carrying_name, *create_task_options;

static const struct {
    PyObject **name;
    const char *text;
} NAMES[] = {
    {&name_blocking, "_asyncio_future_blocking"},
    {&name_callbacks, "_callbacks"},
    {&name_cancel, "cancel"},
    {&name_cancelling, "cancelling"},
    {&name_create_future, "create_future"},
    {&name_create_task, "create_task"},
    {&name_done, "done"},
    {&name_log_destroy_pending, "_log_destroy_pending"},
    {&name_set_name, "set_name"},
    {&name_set_result, "set_result"},
    {&name_throw, "throw"},
    {&spare_name, "tidegate-spare"},
    {&carrying_name, "tidegate-handler"},
};

/* ---- what the three types share ---------------------------------------------------------------------------- */

/* Exit `context`, keeping the exception that is being raised. */
static void
leave_context(PyObject *context)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (PyContext_Exit(context) < 0) {
        PyErr_WriteUnraisable(context);
    }
    PyErr_Restore(type, error, traceback);
}

/* Send to `coroutine` inside of `context`. */
static PySendResult
send_inside(PyObject *context, PyObject *coroutine, PyObject *value, PyObject **result)
{
    if (PyContext_Enter(context) < 0) {
        *result = NULL;
        return PYGEN_ERROR;
    }
    const PySendResult status = PyIter_Send(coroutine, value, result);
    leave_context(context);
    return status;
}

/* What a method `send` returns or raises for an outcome of PyIter_Send. */
static PyObject *
as_generators_do(PySendResult status, PyObject *result)
{
    if (status != PYGEN_RETURN) {
        return result;
    }
    /* An instance, since a value that is a tuple would be taken for the exception's arguments. */
    PyObject *ended = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (ended != NULL) {
        PyErr_SetObject(PyExc_StopIteration, ended);
        Py_DECREF(ended);
    }
    return NULL;
}

/* Call a method without arguments for its truth; -1 with an exception. */
static int
is_true(PyObject *object, PyObject *method)
{
    PyObject *answer = PyObject_CallMethodNoArgs(object, method);
    if (answer == NULL) {
        return -1;
    }
    const int truth = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return truth;
}

/* ---- Carrier ----------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *loop;
    PyObject *task;
    PyObject *wake;      /* what the task waits for, spare; or NULL */
    PyObject *coroutine; /* what is carried; or NULL */
    PyObject *context;
    int has_begun;
} Carrier;

static PyTypeObject Carrier_Type;

static int
Carrier_traverse(Carrier *self, visitproc visit, void *arg)
{
    Py_VISIT(self->loop);
    Py_VISIT(self->task);
    Py_VISIT(self->wake);
    Py_VISIT(self->coroutine);
    Py_VISIT(self->context);
    return 0;
}

static int
Carrier_clear(Carrier *self)
{
    Py_CLEAR(self->loop);
    Py_CLEAR(self->task);
    Py_CLEAR(self->wake);
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->context);
    return 0;
}

static void
Carrier_dealloc(Carrier *self)
{
    PyObject_GC_UnTrack(self);
    Carrier_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *
Carrier_make(PyObject *loop)
{
    Carrier *self = PyObject_GC_New(Carrier, &Carrier_Type);
    if (self == NULL) {
        return NULL;
    }
    self->loop = Py_NewRef(loop);
    self->task = self->wake = self->coroutine = self->context = NULL;
    self->has_begun = 0;
    PyObject_GC_Track(self);
    PyObject *const args[] = {loop, (PyObject *)self, spare_name};
    self->task = PyObject_VectorcallMethod(name_create_task, args, 2, create_task_options);
    /* A loop that is closed with nothing but this one pending has nothing to complain of. */
    if (self->task == NULL || PyObject_SetAttr(self->task, name_log_destroy_pending, Py_False) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* Let the task go on, if it waits. */
static int
Carrier_wake_up(Carrier *self)
{
    if (self->wake == NULL) {
        return 0;
    }
    const int is_done = is_true(self->wake, name_done);
    if (is_done != 0) {
        return is_done < 0 ? -1 : 0;
    }
    PyObject *none = PyObject_CallMethodOneArg(self->wake, name_set_result, Py_None);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

/* Whether it can carry something. What has begun in it, and ended, may have cancelled the task, or want to be told
 * of its end. */
static int
Carrier_is_free(Carrier *self)
{
    if (self->wake != NULL) {
        const int is_done = is_true(self->wake, name_done);
        if (is_done != 0) {
            return is_done < 0 ? -1 : 0;
        }
    }
    const int is_cancelling = is_true(self->task, name_cancelling);
    if (is_cancelling != 0) {
        return is_cancelling < 0 ? -1 : 0;
    }
    PyObject *callbacks = PyObject_GetAttr(self->task, name_callbacks);
    if (callbacks == NULL) {
        return -1;
    }
    const int is_awaited = PyObject_IsTrue(callbacks);
    Py_DECREF(callbacks);
    if (is_awaited > 0) {
        self->has_begun = 1;
        return Carrier_wake_up(self);
    }
    return is_awaited < 0 ? -1 : 1;
}

/* What was carried has ended: no cycle of carrier and task is left for the collector. An exception that is being
 * raised stays. */
static void
Carrier_end(Carrier *self)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->context);
    Py_CLEAR(self->wake);
    Py_CLEAR(self->task);
    PyErr_Restore(type, error, traceback);
}

static PySendResult
Carrier_am_send(PyObject *object, PyObject *value, PyObject **result)
{
    Carrier *self = (Carrier *)object;
    if (self->coroutine != NULL) {
        PyObject *sent = self->has_begun ? value : Py_None;
        self->has_begun = 1;
        PyObject *coroutine = Py_NewRef(self->coroutine);
        PyObject *context = Py_NewRef(self->context);
        const PySendResult status = send_inside(context, coroutine, sent, result);
        if (status != PYGEN_NEXT) {
            Carrier_end(self);
        }
        Py_DECREF(context);
        Py_DECREF(coroutine);
        return status;
    }
    if (self->has_begun) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    *result = PyObject_CallMethodNoArgs(self->loop, name_create_future);
    if (*result == NULL || PyObject_SetAttr(*result, name_blocking, Py_True) < 0) {
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    Py_XSETREF(self->wake, Py_NewRef(*result));
    return PYGEN_NEXT;
}

static PyObject *
Carrier_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    const PySendResult status = Carrier_am_send(self, value, &result);
    return as_generators_do(status, result);
}

/* A task gives one argument, the exception. */
static PyObject *
Carrier_throw(Carrier *self, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
        return NULL;
    }
    if (self->coroutine == NULL) {
        PyObject *type = PyExceptionInstance_Check(args[0]) ? PyExceptionInstance_Class(args[0]) : args[0];
        PyErr_SetObject(type, PyExceptionInstance_Check(args[0]) ? args[0] : NULL);
        return NULL;
    }
    if (!self->has_begun) {
        PyObject *waits_for;
        const PySendResult status = Carrier_am_send((PyObject *)self, Py_None, &waits_for);
        if (status != PYGEN_NEXT) {
            return as_generators_do(status, waits_for);
        }
        Py_DECREF(waits_for);
    }
    PyObject *coroutine = Py_NewRef(self->coroutine);
    PyObject *result = NULL;
    if (PyContext_Enter(self->context) == 0) {
        result = PyObject_CallMethodOneArg(coroutine, name_throw, args[0]);
        leave_context(self->context);
    }
    if (result == NULL) {
        Carrier_end(self);
    }
    Py_DECREF(coroutine);
    return result;
}

static PyObject *
Carrier_close(Carrier *self, PyObject *Py_UNUSED(nothing))
{
    return self->coroutine == NULL ? Py_NewRef(Py_None) : PyObject_CallMethod(self->coroutine, "close", NULL);
}

static PyObject *
Carrier_await(PyObject *Py_UNUSED(self))
{
    PyErr_SetString(PyExc_TypeError, "a task runs this; nobody else awaits it");
    return NULL;
}

static PyMethodDef Carrier_methods[] = {
    {"send", Carrier_send, METH_O, NULL},
    {"throw", FASTCALL(Carrier_throw), METH_FASTCALL, NULL},
    {"close", (PyCFunction)Carrier_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods Carrier_as_async = {.am_await = Carrier_await, .am_send = Carrier_am_send};

static PyTypeObject Carrier_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "transports._accelerator.Carrier",
    .tp_doc = "What a task runs that waits for a coroutine to carry on, and then carries it on.",
    .tp_basicsize = sizeof(Carrier),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)Carrier_dealloc,
    .tp_traverse = (traverseproc)Carrier_traverse,
    .tp_clear = (inquiry)Carrier_clear,
    .tp_methods = Carrier_methods,
    .tp_as_async = &Carrier_as_async,
};

/* ---- Suspended --------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *coroutine;
    PyObject *context;
    PyObject *waits_for; /* what it has yielded, until that has been passed on */
    PyObject *carrier;
} Suspended;

static PyTypeObject Suspended_Type;

static int
Suspended_traverse(Suspended *self, visitproc visit, void *arg)
{
    Py_VISIT(self->coroutine);
    Py_VISIT(self->context);
    Py_VISIT(self->waits_for);
    Py_VISIT(self->carrier);
    return 0;
}

static int
Suspended_clear(Suspended *self)
{
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waits_for);
    Py_CLEAR(self->carrier);
    return 0;
}

static void
Suspended_dealloc(Suspended *self)
{
    PyObject_GC_UnTrack(self);
    Suspended_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *
Suspended_carry(Suspended *self, PyObject *outer)
{
    Carrier *carrier = (Carrier *)self->carrier;
    if (carrier == NULL || carrier->coroutine != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it is carried on already");
        return NULL;
    }
    carrier->coroutine = Py_NewRef(outer);
    carrier->context = Py_NewRef(self->context);
    PyObject *named = PyObject_CallMethodOneArg(carrier->task, name_set_name, carrying_name);
    if (named == NULL || PyObject_SetAttr(carrier->task, name_log_destroy_pending, Py_True) < 0 ||
        Carrier_wake_up(carrier) < 0) {
        Py_XDECREF(named);
        return NULL;
    }
    Py_DECREF(named);
    PyObject *task = Py_NewRef(carrier->task);
    Py_CLEAR(self->carrier);
    return task;
}

static PySendResult
Suspended_am_send(PyObject *object, PyObject *value, PyObject **result)
{
    Suspended *self = (Suspended *)object;
    if (self->waits_for != NULL) {
        *result = self->waits_for;
        self->waits_for = NULL;
        return PYGEN_NEXT;
    }
    return PyIter_Send(self->coroutine, value, result);
}

static PyObject *
Suspended_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    const PySendResult status = Suspended_am_send(self, value, &result);
    return as_generators_do(status, result);
}

static PyObject *
Suspended_iternext(PyObject *self)
{
    return Suspended_send(self, Py_None);
}

static PyObject *
Suspended_throw(Suspended *self, PyObject *args)
{
    Py_CLEAR(self->waits_for);
    PyObject *throw = PyObject_GetAttr(self->coroutine, name_throw);
    if (throw == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_CallObject(throw, args);
    Py_DECREF(throw);
    return result;
}

static PyObject *
Suspended_close(Suspended *self, PyObject *Py_UNUSED(nothing))
{
    return PyObject_CallMethod(self->coroutine, "close", NULL);
}

static PyMethodDef Suspended_methods[] = {
    {"carry", (PyCFunction)Suspended_carry, METH_O, "carry(outer) -> asyncio.Task"},
    {"send", Suspended_send, METH_O, NULL},
    {"throw", (PyCFunction)Suspended_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)Suspended_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods Suspended_as_async = {.am_await = PyObject_SelfIter, .am_send = Suspended_am_send};

static PyTypeObject Suspended_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "transports._accelerator.Suspended",
    .tp_doc = "A coroutine that has begun and not ended. See transports.eager.",
    .tp_basicsize = sizeof(Suspended),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)Suspended_dealloc,
    .tp_traverse = (traverseproc)Suspended_traverse,
    .tp_clear = (inquiry)Suspended_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = Suspended_iternext,
    .tp_methods = Suspended_methods,
    .tp_as_async = &Suspended_as_async,
};

/* ---- EagerStarter ------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *loop;
    PyObject *spare; /* a Carrier, or NULL */
} Starter;

static int
Starter_traverse(Starter *self, visitproc visit, void *arg)
{
    Py_VISIT(self->loop);
    Py_VISIT(self->spare);
    return 0;
}

static int
Starter_clear(Starter *self)
{
    Py_CLEAR(self->loop);
    Py_CLEAR(self->spare);
    return 0;
}

static void
Starter_dealloc(Starter *self)
{
    PyObject_GC_UnTrack(self);
    Starter_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
Starter_init(Starter *self, PyObject *args, PyObject *options)
{
    static char *names[] = {"loop", NULL};
    PyObject *loop;
    if (!PyArg_ParseTupleAndKeywords(args, options, "O:EagerStarter", names, &loop)) {
        return -1;
    }
    Py_XSETREF(self->loop, Py_NewRef(loop));
    return 0;
}

static int
cancel(PyObject *task)
{
    PyObject *answer = PyObject_CallMethodNoArgs(task, name_cancel);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* Call one of asyncio's two functions, keeping the exception that is being raised. */
static void
switch_task(PyObject *function, PyObject *loop, PyObject *task)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyObject *const args[] = {loop, task};
    PyObject *none = PyObject_Vectorcall(function, args, 2, NULL);
    if (none == NULL) {
        PyErr_WriteUnraisable(function);
    }
    Py_XDECREF(none);
    PyErr_Restore(type, error, traceback);
}

/* The spare carrier, or a new one: a new reference, and none is left. */
static Carrier *
Starter_take(Starter *self)
{
    PyObject *spare = self->spare;
    self->spare = NULL; /* what begins inside of this has another */
    if (spare != NULL) {
        const int is_free = Carrier_is_free((Carrier *)spare);
        if (is_free > 0) {
            return (Carrier *)spare;
        }
        Py_DECREF(spare);
        if (is_free < 0) {
            return NULL;
        }
    }
    return (Carrier *)Carrier_make(self->loop);
}

/* Steals the reference. An exception that is being raised stays. */
static void
Starter_put_back(Starter *self, Carrier *carrier)
{
    if (self->spare == NULL) {
        self->spare = (PyObject *)carrier;
        return;
    }
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (cancel(carrier->task) < 0) {
        PyErr_WriteUnraisable(carrier->task);
    }
    Py_DECREF(carrier);
    PyErr_Restore(type, error, traceback);
}

static PyObject *
Starter_begin(Starter *self, PyObject *coroutine)
{
    Carrier *carrier = Starter_take(self);
    if (carrier == NULL) {
        return NULL;
    }
    PyObject *context = PyContext_CopyCurrent();
    PyObject *outer = context == NULL ? NULL : PyObject_CallOneArg(current_task, self->loop);
    if (outer == NULL) {
        Py_XDECREF(context);
        Starter_put_back(self, carrier);
        return NULL;
    }
    if (outer != Py_None) {
        switch_task(leave_task, self->loop, outer);
    }
    switch_task(enter_task, self->loop, carrier->task);
    PyObject *result;
    const PySendResult status = send_inside(context, coroutine, Py_None, &result);
    switch_task(leave_task, self->loop, carrier->task);
    if (outer != Py_None) {
        switch_task(enter_task, self->loop, outer);
    }
    Py_DECREF(outer);
    if (status != PYGEN_NEXT) {
        Py_DECREF(context);
        Starter_put_back(self, carrier);
        return result;
    }
    Suspended *suspended = PyObject_GC_New(Suspended, &Suspended_Type);
    if (suspended == NULL) {
        Py_DECREF(context);
        Py_DECREF(result);
        Py_DECREF(carrier);
        return NULL;
    }
    suspended->coroutine = Py_NewRef(coroutine);
    suspended->context = context;
    suspended->waits_for = result;
    suspended->carrier = (PyObject *)carrier;
    PyObject_GC_Track(suspended);
    return (PyObject *)suspended;
}

static PyObject *
Starter_close(Starter *self, PyObject *Py_UNUSED(nothing))
{
    PyObject *spare = self->spare;
    self->spare = NULL;
    if (spare != NULL) {
        const int failed = cancel(((Carrier *)spare)->task);
        Py_DECREF(spare);
        if (failed) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef Starter_methods[] = {
    {"begin", (PyCFunction)Starter_begin, METH_O, "begin(coroutine) -> its result, or Suspended"},
    {"close", (PyCFunction)Starter_close, METH_NOARGS, "Let go of the spare task."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Starter_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "transports._accelerator.EagerStarter",
    .tp_doc = "Begins coroutines on a loop. See transports.eager.",
    .tp_basicsize = sizeof(Starter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Starter_init,
    .tp_dealloc = (destructor)Starter_dealloc,
    .tp_traverse = (traverseproc)Starter_traverse,
    .tp_clear = (inquiry)Starter_clear,
    .tp_methods = Starter_methods,
};

int
accelerator_add_eager(PyObject *module)
{
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        Py_XSETREF(*NAMES[i].name, PyUnicode_InternFromString(NAMES[i].text));
        if (*NAMES[i].name == NULL) {
            return -1;
        }
    }
    Py_XSETREF(create_task_options, Py_BuildValue("(s)", "name"));
    PyObject *tasks = create_task_options == NULL ? NULL : PyImport_ImportModule("asyncio.tasks");
    if (tasks == NULL) {
        return -1;
    }
    Py_XSETREF(current_task, PyObject_GetAttrString(tasks, "current_task"));
    Py_XSETREF(enter_task, PyObject_GetAttrString(tasks, "_enter_task"));
    Py_XSETREF(leave_task, PyObject_GetAttrString(tasks, "_leave_task"));
    Py_DECREF(tasks);
    if (current_task == NULL || enter_task == NULL || leave_task == NULL || PyType_Ready(&Carrier_Type) < 0 ||
        PyModule_AddType(module, &Suspended_Type) < 0 || PyModule_AddType(module, &Starter_Type) < 0) {
        return -1;
    }
    return 0;
}
